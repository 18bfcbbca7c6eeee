"""The parts of SIP URIs that call control reads and writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telephony_gateway.calls.uris import MAX_USER, escape_user, is_diallable, parse_sip, user_of


@pytest.mark.parametrize(
    ("uri", "user", "host", "port"),
    [
        ("sip:alice@192.0.2.1", "alice", "192.0.2.1", None),
        ("SIP:alice:secret@example.com:5070;transport=udp?Subject=x", "alice", "example.com", 5070),
        ("sip:+7%20495;phone-context=+7@[2001:db8::1]:5060", "+7 495", "[2001:db8::1]", 5060),
        ("sip:192.0.2.1", "", "192.0.2.1", None),
    ],
)
def test_sip_uris(uri: str, user: str, host: str, port: int | None) -> None:
    parsed = parse_sip(uri)
    assert parsed is not None
    assert (parsed.user, parsed.host, parsed.port) == (user, host, port)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "alice",
        "sipx:a@b",
        "tel:+7",
        "sip:",
        "sip:@h",
        "sip:a@",
        "sip:a@h:99999",
        "sip:a@h\r\nX: y",
        "sip:a b@h",
        "sip:a\0@h",
        "sip:a:\x1b@h",
        "sip:h;x=\x7f",
        "sip:a@h>",
        "sip:" + "a" * 300 + "@h",
        'sip:"a"@h',
    ],
)
def test_what_is_no_sip_uri(uri: str) -> None:
    assert parse_sip(uri) is None


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("sip:+7495@host", "+7495"),
        ("sips:bob;x=y:pw@host", "bob"),
        ("tel:+7495;ext=1", "+7495"),
        ("sip:host", ""),
        ("", ""),
        ("sip:%2B7@h", "+7"),
        ("sip:" + "9" * 100 + "@h", "9" * MAX_USER),
    ],
)
def test_users(uri: str, user: str) -> None:
    assert user_of(uri) == user


@given(st.text(max_size=300))
def test_anything_may_be_asked_for_its_user(text: str) -> None:
    assert len(user_of(text)) <= MAX_USER


@given(st.text(min_size=1, max_size=15))
def test_an_escaped_user_comes_back(user: str) -> None:
    try:
        user.encode()
    except UnicodeEncodeError:
        return
    parsed = parse_sip(f"sip:{escape_user(user)}@host")
    assert parsed is not None
    assert parsed.user == user


def test_numbers() -> None:
    assert is_diallable("+7(495)".replace("(", "").replace(")", ""))
    assert is_diallable("*100#")
    assert not is_diallable("")
    assert not is_diallable("a@b")
    assert escape_user("*100#") == "*100%23"
