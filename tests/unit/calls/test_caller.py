"""Who the far side is told is calling, by trust, privacy and the trunk's wishes; which headers go along."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony_gateway.calls import passage
from telephony_gateway.calls.caller import (
    ANONYMOUS_URI,
    Caller,
    asserted_by,
    is_plain,
    privacy_of,
    shown,
    way_here,
)
from telephony_gateway.calls.carried import MAX_HEADERS, MAX_VALUE, allowed, carried, faults, settable
from telephony_gateway.calls.trunks import OURS, CallerId, Trunk
from tests.unit.calls.world import Headers as Invite

ANNA = Caller(user="7495", display="Anna", asserted="<sip:7495@inside>", privacy=frozenset({"id"}))
FRIEND = Trunk(name="friend", trusted=True)
STRANGER = Trunk(name="stranger")


def told(caller: Caller, trunk: Trunk | None) -> tuple[str, str, dict[str, str]]:
    said = shown(caller, trunk, "far")
    return said.uri, said.display, dict(said.headers)


def without(privacy: str = "") -> Caller:
    return Caller(user="7495", display="Anna", asserted="<sip:7495@inside>", privacy=frozenset({privacy}))


def test_privacy_hides_the_caller_from_strangers_only() -> None:
    assert told(ANNA, STRANGER) == (ANONYMOUS_URI, "Anonymous", {})
    assert told(ANNA, None) == (ANONYMOUS_URI, "Anonymous", {})
    assert told(ANNA, FRIEND) == (
        "sip:7495@far",
        "Anna",
        {"P-Asserted-Identity": "<sip:7495@inside>", "Privacy": "id"},
    )


def test_identity_leaves_the_domain_only_if_the_caller_says_so() -> None:
    assert told(without(), STRANGER) == ("sip:7495@far", "Anna", {})
    assert told(without("none"), STRANGER)[2] == {"P-Asserted-Identity": "<sip:7495@inside>"}
    assert told(without("session"), STRANGER) == ("sip:7495@far", "Anna", {})


@pytest.mark.parametrize(
    ("trunk", "expected"),
    [
        (
            Trunk(name="t", privacy="id", trusted=True),
            (ANONYMOUS_URI, "Anonymous", {"P-Asserted-Identity": "<sip:7495@inside>", "Privacy": "id"}),
        ),
        (
            Trunk(name="t", caller_id=CallerId(policy="anonymous")),
            (ANONYMOUS_URI, "Anonymous", {"Privacy": "id"}),
        ),
        (
            Trunk(name="t", caller_id=CallerId(policy="replace", number="100", name="Office")),
            ("sip:100@far", "Office", {}),
        ),
        (
            Trunk(name="t", trusted=True, caller_id=CallerId(policy="replace", number="100")),
            ("sip:100@far", "", {"P-Asserted-Identity": "<sip:100@far>"}),
        ),
    ],
)
def test_a_trunk_has_wishes_of_its_own(trunk: Trunk, expected: tuple[str, str, dict[str, str]]) -> None:
    assert told(without(), trunk) == expected
    assert not is_plain(trunk)


def test_only_friends_are_believed() -> None:
    invite = Invite(("P-Asserted-Identity", "<sip:1@a>"), ("p-asserted-identity", "<tel:+1>"))
    assert asserted_by(invite, FRIEND) == "<sip:1@a>, <tel:+1>"
    assert asserted_by(invite, STRANGER) == ""
    assert asserted_by(invite, None) == ""
    assert asserted_by(Invite(("P-Asserted-Identity", "<sip:" + "1" * 2000 + "@a>")), FRIEND) == ""


def test_privacy_is_read_in_all_spellings() -> None:
    assert privacy_of(Invite(("Privacy", "ID ; critical"))) == {"id", "critical"}
    assert privacy_of(Invite(("Privacy", "user,header"))) == {"user", "header"}
    assert privacy_of(Invite()) == frozenset()


def test_the_way_here_goes_to_friends_and_to_those_who_ask() -> None:
    asks = Trunk(name="asks", headers=("Diversion", "History-Info"))
    invite = Invite(("Diversion", "<sip:9@x>;reason=no-answer"), ("History-Info", "<sip:9@x>;index=1"))
    to = "sip:200@us"

    def lines(source: Trunk | None, target: Trunk | None) -> dict[str, str]:
        return dict(way_here(invite, source, target, to, "sip:200@far", "unconditional"))

    assert lines(STRANGER, STRANGER) == lines(FRIEND, STRANGER) == lines(STRANGER, FRIEND) == {}
    assert lines(FRIEND, FRIEND)["Diversion"] == "<sip:9@x>;reason=no-answer"
    assert lines(FRIEND, asks) == {
        "Diversion": "<sip:200@us>;reason=unconditional;counter=1, <sip:9@x>;reason=no-answer",
        "History-Info": "<sip:9@x>;index=1, <sip:200@far>;index=1.1;mp=1",
    }
    assert lines(STRANGER, asks) == {
        "Diversion": "<sip:200@us>;reason=unconditional;counter=1",
        "History-Info": "<sip:200@us>;index=1, <sip:200@far>;index=1.1;mp=1",
    }


def test_headers_go_by_the_list() -> None:
    invite = Invite(
        ("X-One", "1"),
        ("x-one", "2"),
        ("User-to-User", "ab"),
        ("X-Long", "x" * 300),
        ("Y", "3"),
        ("X-No", ""),
    )
    assert carried(invite, ()) == {}
    assert carried(invite, ("x-*",)) == {"X-One": "1, 2"}
    assert carried(invite, ("X-One", "User-To-User")) == {"X-One": "1, 2", "User-to-User": "ab"}
    many = Invite(*((f"X-{n}", "v" * MAX_VALUE) for n in range(100)))
    assert len(carried(many, ("X-*",))) == MAX_HEADERS


@given(st.sampled_from(sorted(OURS)), st.integers(1, 20))
def test_no_list_lets_through_what_is_the_gateways(name: str, length: int) -> None:
    assert not allowed(name, [name, name[:length] + "*"])
    assert not allowed(name.upper(), [f"{letter}*" for letter in string.ascii_letters])


def test_what_may_be_set() -> None:
    assert settable("X-Any")
    assert not settable("Subject")
    assert settable("Subject", ["Sub*"])
    assert not settable("Via", ["V*"])
    assert list(faults({"X-Fine": "yes"})) == []
    for wrong in (
        {"X bad": "v"},
        {"X-A": "a\r\nVia: b"},
        {"X-A": "v" * 257},
        {"X-A": "1", "x-a": "2"},
        {f"X-{n}": "v" for n in range(33)},
    ):
        assert list(faults(wrong)), wrong


def test_a_passage_is_known_by_all_that_the_decision_depends_on() -> None:
    mine = passage.token("a", "1", "2")
    assert mine == passage.token("a", "1", "2")
    assert (
        len({mine, passage.token("b", "1", "2"), passage.token("a", "2", "2"), passage.token("a", "1", "1")})
        == 4
    )
    earlier = passage.passages(Invite(passage.onward([], mine)))
    assert earlier == [mine]
    assert passage.passages(Invite()) == []
    long = [f"{n:016x}" for n in range(20)]
    _, value = passage.onward(long, mine)
    assert passage.passages(Invite((passage.HEADER, value))) == [*long[-7:], mine]


@pytest.mark.parametrize(
    ("came", "goes"),
    [("70", "69"), ("1", "0"), ("0", "0"), ("255", "254"), ("x", None), (None, None), ("9" * 40, "254")],
)
def test_hops_are_counted_through(came: str | None, goes: str | None) -> None:
    invite = Invite(*([("Max-Forwards", came)] if came is not None else []))
    assert passage.max_forwards(invite) == (None if goes is None else ("Max-Forwards", goes))
