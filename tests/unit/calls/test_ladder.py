"""A call's SIP messages: whose they are, what is shown of them, and for how long."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from telephony_gateway.calls.ids import IdSource, Owner
from telephony_gateway.calls.ladder import PastLegs, Rung, as_text
from telephony_gateway.calls.model import Call
from telephony_gateway.calls.sip_text import masked, summary
from telephony_gateway.errors import CallNotFound, WrongState
from tests.unit.calls.world import START, LoopClock, World, settle

INVITE = "INVITE sip:bob@192.0.2.1 SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n"
BUSY = "SIP/2.0 486 Busy Here\r\nCSeq: 1 INVITE\r\n\r\n"
T0 = datetime(2026, 11, 22, tzinfo=UTC)


def rung(leg: int, message: str, *, sent: bool = False, at: float = 0.0) -> Rung:
    return Rung(
        at=T0 + timedelta(seconds=at),
        leg=leg,
        sent=sent,
        transport="udp",
        local="192.0.2.1:5060",
        remote="203.0.113.7:5060",
        message=message.encode(),
    )


async def test_every_leg_shows_and_the_same_again_is_counted(world: World) -> None:
    leg = world.invite("2000")
    await settle()
    far = world.engine.of("dial")[-1][0]
    world.engine.rungs += [
        rung(leg, INVITE),
        rung(far, INVITE, sent=True, at=0.1),
        rung(far, INVITE, sent=True, at=0.6),
        rung(far, INVITE, sent=True, at=1.6),
        rung(far, BUSY, at=2),
        rung(leg, BUSY, sent=True, at=2.1),
        rung(999, BUSY, at=3),
    ]
    call = await world.manager.find_call(world.only().id)
    told = await world.manager.call_sip(call.id)
    shown = [(item.direction, item.summary) for item in told.items]
    assert shown == [
        ("in", "INVITE sip:bob@192.0.2.1"),
        ("out", "INVITE sip:bob@192.0.2.1"),
        ("in", "486 Busy Here (INVITE)"),
        ("out", "486 Busy Here (INVITE)"),
    ]
    first, second = (one.id for one in call.legs)
    assert [item.leg for item in told.items] == [first, second, second, first]
    assert [at - T0 for at in told.items[1].retransmissions] == [
        timedelta(seconds=0.6),
        timedelta(seconds=1.6),
    ]
    assert (told.truncated, told.items[0].remote, told.items[0].transport) == (
        False,
        "203.0.113.7:5060",
        "udp",
    )
    text = as_text(told)
    assert "192.0.2.1:5060 -> 203.0.113.7:5060 udp leg" in text
    assert f"leg {second}, again 2 times\nINVITE sip:bob@192.0.2.1 SIP/2.0\nCSeq: 1 INVITE\n" in text


async def test_it_can_be_read_when_the_call_is_over_and_forgotten(world: World) -> None:
    leg, call = await world.talking(world.browser())
    world.engine.rungs.append(rung(leg, INVITE))
    world.end(leg, "bye")
    await asyncio.sleep(50)
    assert world.manager._calls.everything() == []
    assert [item.message for item in (await world.manager.call_sip(call.id)).items] == [INVITE]
    world.engine.rungs.clear()
    gone = await world.manager.call_sip(call.id)
    assert (gone.items, gone.truncated) == ((), True)


async def test_legs_are_remembered_in_bounds() -> None:
    past, ids = PastLegs(1), [uuid4() for _ in range(300)]
    for call_id in ids:
        past.keep(call_id, [(1, call_id)])
    assert past.of(ids[0]) is None
    assert past.of(ids[-1]) == [(1, ids[-1])]
    assert sum(past.of(call_id) is not None for call_id in ids) == 256
    past.keep(nobody := uuid4(), [])
    assert past.of(nobody) is None


async def test_only_the_node_that_ran_a_call_has_it(world: World) -> None:
    with pytest.raises(CallNotFound):
        await world.manager.call_sip(uuid4())
    there = IdSource(Owner.of("elsewhere", START), LoopClock()).new()
    before = IdSource(Owner.of("test", START - timedelta(hours=1)), LoopClock()).new()
    for call_id in (there, before):
        world.cache.calls[call_id] = Call(
            id=call_id, direction="inbound", status="completed", from_="1", to="2", created_at=START
        )
    with pytest.raises(WrongState, match="another node"):
        await world.manager.call_sip(there)
    # Of its own last run nothing is left.
    assert (await world.manager.call_sip(before)).truncated


async def test_nothing_is_kept_without_memory() -> None:
    world = World(ladder_memory=0)
    world.invite("2000")
    await settle()
    with pytest.raises(WrongState, match="SIP_LADDER_MEMORY"):
        await world.manager.call_sip(world.only().id)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (INVITE, "INVITE sip:bob@192.0.2.1"),
        (BUSY, "486 Busy Here (INVITE)"),
        ("SIP/2.0 200 \r\ncseq : 7 BYE\r\n\r\n", "200 (BYE)"),
        ("SIP/2.0 200 OK\r\n\r\nCSeq: 7 BYE\r\n", "200 OK"),
        ("REFER sip:a:secret@b SIP/2.0\r\n\r\n", "REFER sip:a:***@b"),
        ("INVITE sip:" + "x" * 500 + " SIP/2.0\r\n\r\n", ("INVITE sip:" + "x" * 500)[:200] + "..."),
        ("what", "what"),
        ("", ""),
    ],
)
def test_a_summary_is_one_line(message: str, expected: str) -> None:
    assert summary(message) == expected


DIGEST = (
    'Digest username="u", realm="r", nonce="n", uri="sip:u:pw@h", response="5ec2e7", '
    'cnonce="5ec2e8", nc=00000001'
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            f"Authorization: {DIGEST}",
            'Authorization: Digest username="u", realm="r", nonce="n", uri="sip:u:***@h", response="***", '
            'cnonce="***", nc=00000001',
        ),
        ('proxy-authorization:Digest response = "5ec2e7"', 'proxy-authorization:Digest response = "***"'),
        ("Authorization: Digest response=5ec2e7", "Authorization: Digest response=***"),
        ('Authorization: Digest nc=1,\r\n\tresponse="5ec2e7"', 'Authorization: Digest nc=1, response="***"'),
        ('Authorization: Digest x="5ec2\\"e7", y=5ec2"e7', 'Authorization: Digest x="***", y=***'),
        ("Authorization: Basic NWVjMmU3", "Authorization: Basic ***"),
        ("Authorization: NWVjMmU3", "Authorization: ***"),
        ('Authentication-Info: rspauth="5ec2e7", nc=1', 'Authentication-Info: rspauth="***", nc=1'),
        ('WWW-Authenticate: Digest nonce="n"', 'WWW-Authenticate: Digest nonce="n"'),
        ("Identity: eyJ.eyJ.5ec2e7;info=<https://a/b.pem>", "Identity: ***;info=<https://a/b.pem>"),
        ("y: eyJ.eyJ.5ec2e7", "y: ***"),
        ("X-Api-Key: 5ec2e7", "X-Api-Key: ***"),
        ("X-CRM-Token: a\r\n 5ec2e7", "X-CRM-Token: ***"),
        ("Refer-To: <sip:a:5ec2e7@b:5060>", "Refer-To: <sip:a:***@b:5060>"),
        (
            "Contact: <sip:+7495;x=1:5ec2e7@b>, <SIPS:c@d:5061>",
            "Contact: <sip:+7495;x=1:***@b>, <SIPS:c@d:5061>",
        ),
        ("Refer-To: <sip:a/c:5ec/2e7/5ec2e7@b>", "Refer-To: <sip:a/c:***@b>"),
        ("Route: <sip:192.0.2.1:5060;lr>", "Route: <sip:192.0.2.1:5060;lr>"),
        ("From: <sip:+74951234567@b>;tag=1", "From: <sip:+74951234567@b>;tag=1"),
    ],
)
def test_no_header_tells_a_secret(header: str, expected: str) -> None:
    start, end = "INVITE sip:a@b SIP/2.0\r\nVia: x\r\n", "\r\nContent-Length: 0\r\n\r\n"
    shown = masked(start + header + end)
    assert shown == start + expected + end
    assert "5ec2e" not in shown


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:5ec2e7|2^20|1:32",
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 ***",
        ),
        ("a=ice-pwd:5ec2e7", "a=ice-pwd:***"),
        ("k=base64:5ec2e7", "k=base64:***"),
        ("a=key-mgmt:mikey 5ec2e7", "a=key-mgmt:mikey ***"),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:abcd"),
        ("a=fingerprint:sha-256 AB:CD", "a=fingerprint:sha-256 AB:CD"),
        ("Authorization: this is no header", "Authorization: this is no header"),
    ],
)
def test_no_session_description_tells_a_key(line: str, expected: str) -> None:
    for end in ("\r\n", "\n"):
        start = f"SIP/2.0 200 OK{end}CSeq: 1 INVITE{end}Content-Type: application/sdp{end}{end}v=0{end}"
        assert masked(f"{start}{line}{end}m=audio{end}") == f"{start}{expected}{end}m=audio{end}"


@pytest.mark.parametrize("blank", ["\r\n\r\n", "\n\n", "\n\r\n", "\r\n\n"])
def test_however_a_head_ends_its_body_tells_no_key(blank: str) -> None:
    start = f"SIP/2.0 200 OK\r\nCSeq: 1 INVITE{blank}v=0\r\n"
    assert masked(f"{start}a=ice-pwd:5ec2e7\r\n\r\n") == f"{start}a=ice-pwd:***\r\n\r\n"


@pytest.mark.parametrize(
    ("content", "body", "expected"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", "Signal=***\r\nDuration=160\r\n"),
        ("application/dtmf-relay", "Signal= #\nDuration= 160", "Signal= ***\nDuration= 160"),
        ("application/dtmf", "5", "*"),
        ("application/dtmf; x=y", " 1234# \r\n", " ***** \r\n"),
        ("application/vnd.x", "d=5", "d=***"),
        ("application/media_control+xml", "<x/>", "<x/>"),
    ],
)
def test_an_info_tells_no_digits(content: str, body: str, expected: str) -> None:
    start = f"INFO sip:a@b SIP/2.0\r\nContent-Type: {content}\r\n\r\n"
    assert masked(start + body) == start + expected
