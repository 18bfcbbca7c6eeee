"""Offer and answer between two SIP peers on the wire: hold, refusals, late offers, early media."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.interop.exchange import Exchange, gateway_port, history, play
from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.peers import Sipp, rtp_peer, sipp
from tests.interop.pjsua_peer import phone
from tests.interop.script import Script, sdp
from tests.interop.tone import purity, rms, seconds_of_tone
from tests.interop.webrtc_peer import webrtc_peer
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

RTP = 6000
FROM_CALLER, FROM_CALLEE = 1000.0, 700.0
HOLDS = [
    (sdp(RTP, direction="sendonly"), "sendonly", "recvonly"),
    (sdp(RTP, direction="inactive"), "inactive", "inactive"),
    (sdp(RTP, address="0.0.0.0"), "sendonly", "recvonly"),
]
"""What is said, what the other side is offered, what it answers and the holder is answered."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def exchange(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Exchange]:
    folder, callee = tmp_path_factory.mktemp("offers"), free_port()
    tables = folder / "gateway.toml"
    tables.write_text(
        f"""
[[trunks]]
name = "carrier"
addresses = ["127.0.0.1/32"]
uri = "sip:127.0.0.1:{callee}"
ringback = "eu"
codecs = ["PCMU", "PCMA"]

[[routes]]
name = "callee"
target = {{ uri = "sip:bob@127.0.0.1:{callee}" }}
"""
    )
    async with gateway(folder, GATEWAY_CONFIG=str(tables)) as running:
        yield Exchange(running, callee)


def origins(peer: Sipp, message: str) -> list[tuple[int, int]]:
    """Id and version of `o=` in each message that a peer received and that begins so."""
    log = (peer.folder / "messages.log").read_text()
    received = [part for part in log.split("-" * 47) if "message received" in part[:200]]
    found = [re.search(r"^o=- (\d+) (\d+) ", part, re.M) for part in received if f"\n{message}" in part]
    return list(dict.fromkeys((int(one[1]), int(one[2])) for one in found if one))


def says(direction: str) -> tuple[str, ...]:
    return (f"a={direction}",)


@pytest.mark.parametrize("holder", ["caller", "callee"])
async def test_hold_and_resume_in_every_spelling(exchange: Exchange, tmp_path: Path, holder: str) -> None:
    caller, callee = Script("caller").calls(sdp(RTP)), Script("callee").called(sdp(RTP))
    holds, held = (caller, callee) if holder == "caller" else (callee, caller)
    for said, offered, answered in HOLDS:
        holds.pause(100).renews(said, has=says(answered), lacks=["IN IP4 0.0.0.0", "o=peer"])
        held.renewed(sdp(RTP, direction=answered), has=says(offered), lacks=["IN IP4 0.0.0.0", "o=peer"])
        holds.pause(100).renews(sdp(RTP), has=says("sendrecv"))
        held.renewed(sdp(RTP, direction="sendrecv"), has=says("sendrecv"))
    holds.pause(100).leaves()
    held.left()
    peers = await play(exchange, tmp_path, caller, callee)
    versions = origins(peers[1], "INVITE") if holder == "caller" else origins(peers[0], "INVITE")
    first = versions[0][1]
    assert [version for _, version in versions] == list(range(first, first + len(versions)))
    assert len({session for session, _ in versions}) == 1
    assert len(versions) >= 6
    told = [
        event for event in await history(exchange.gateway) if event["type"] in ("call.held", "call.resumed")
    ]
    assert [event["type"] for event in told] == ["call.held", "call.resumed"] * 3
    assert {event["data"]["side"] for event in told} == {holder}


async def test_a_refused_hold_comes_back_and_the_call_goes_on(exchange: Exchange, tmp_path: Path) -> None:
    warning = 'Warning: 399 pbx "no hold here"\n'
    caller = (
        Script("caller")
        .calls(sdp(RTP))
        .ask("INVITE", sdp(RTP, direction="sendonly"))
        .told(100, optional=True)
        .told(488, has=['Warning: 399 gateway "the other side refused: no hold here"'])
        .ask("ACK")
        .pause(300)
        .renews(sdp(RTP, direction="inactive"), has=says("inactive"))
        .leaves()
    )
    callee = (
        Script("callee")
        .called(sdp(RTP))
        .asked("INVITE", has=says("sendonly"))
        .answer("488 Not Acceptable Here", headers=warning)
        .asked("ACK")
        .renewed(sdp(RTP, direction="inactive"), has=says("inactive"))
        .left()
    )
    await play(exchange, tmp_path, caller, callee)
    types = [event["type"] for event in await history(exchange.gateway)]
    assert types.count("call.held") == 1, "only the one that was agreed to"


async def test_both_sides_renew_at_once(exchange: Exchange, tmp_path: Path) -> None:
    hold = sdp(RTP, direction="sendonly")
    caller = Script("caller").calls(sdp(RTP)).renews(hold, has=says("recvonly")).leaves()
    callee = (
        Script("callee")
        .called(sdp(RTP))
        .asked("INVITE", has=says("sendonly"))
        .answer("491 Request Pending")
        .asked("ACK")
        .renewed(sdp(RTP, direction="recvonly"), has=says("sendonly"))
        .left()
    )
    await play(exchange, tmp_path, caller, callee)
    await history(exchange.gateway)


async def test_late_offers(exchange: Exchange, tmp_path: Path) -> None:
    offer = ["m=audio [0-9]+ RTP/AVP 0 8", "a=sendrecv"]
    caller = (
        Script("caller")
        .ask("INVITE")
        .told(100, optional=True)
        .told(180, optional=True)
        .told(183, optional=True)
        .told(200, has=offer)
        .ask("ACK", sdp(RTP))
        .pause(200)
        .ask("INVITE")
        .told(100, optional=True)
        .told(200, has=offer)
        .ask("ACK", sdp(RTP, direction="inactive"))
        .pause(300)
        .leaves()
    )
    callee = (
        Script("callee").called(sdp(RTP)).renewed(sdp(RTP, direction="inactive"), has=says("inactive")).left()
    )
    anna, _ = await play(exchange, tmp_path, caller, callee)
    assert len(origins(anna, "SIP/2.0 200")) == 1, "nothing of ours has changed between the two"
    assert "call.held" in [event["type"] for event in await history(exchange.gateway)]


@pytest.mark.parametrize(("answer", "goes_on"), [("v=0\nnonsense\n", True), (sdp(RTP, 18), False)])
async def test_an_answer_to_our_late_offer_that_is_no_use(
    exchange: Exchange, tmp_path: Path, answer: str, goes_on: bool
) -> None:
    """What says nothing changes nothing; a codec that nobody offered is no call any more."""
    caller = Script("caller").calls(sdp(RTP)).pause(200).ask("INVITE").told(100, optional=True).told(200)
    caller.ask("ACK", answer)
    caller = caller.pause(300).leaves() if goes_on else caller.left()
    await play(exchange, tmp_path, caller, Script("callee").called(sdp(RTP)).left())
    last = (await history(exchange.gateway))[-1]
    assert (last["type"], last["data"]["hangup_source"]) == (
        "call.completed",
        "caller" if goes_on else "system",
    )


async def test_refusals_say_which_codecs_would_do(exchange: Exchange, tmp_path: Path) -> None:
    why = "Warning: 305 gateway .*no common codec: offered are G729, allowed are PCMU, PCMA"
    caller = Script("caller").ask("INVITE", sdp(RTP, 18)).told(100, optional=True)
    caller.told(488, has=[why]).ask("ACK")
    callee = Script("callee").invited().answer("180 Ringing").asked("CANCEL").answer("200 OK")
    async with sipp(callee, tmp_path, port=exchange.callee):
        async with sipp(caller, tmp_path, remote=exchange.gateway.sip) as anna:
            await anna.finished()


async def test_early_media_flows_both_ways_before_the_answer(exchange: Exchange, tmp_path: Path) -> None:
    async with rtp_peer(FROM_CALLER) as anna, rtp_peer(FROM_CALLEE) as bob:
        callee = (
            Script("callee")
            .invited()
            .answer("183 Session Progress", sdp(bob.port))
            .pause(3000)
            .answer("486 Busy Here")
            .asked("ACK")
        )
        caller = (
            Script("caller")
            .ask("INVITE", sdp(anna.port))
            .told(100, optional=True)
            .told(183, has=["m=audio [0-9]+ RTP/AVP 0"])
            .told(486)
            .ask("ACK")
        )
        async with sipp(callee, tmp_path, port=exchange.callee) as far:
            async with sipp(caller, tmp_path, remote=exchange.gateway.sip) as near:
                bob.remote = ("127.0.0.1", await gateway_port(far))
                anna.remote = ("127.0.0.1", await gateway_port(near))
                await asyncio.gather(anna.talk(2), bob.talk(2))
                await near.finished()
                await far.finished()
        assert seconds_of_tone(anna.audio(), FROM_CALLEE) > 1, "the caller hears the callee's own sound"
        assert seconds_of_tone(bob.audio(), FROM_CALLER) > 1


async def test_a_ringback_tone_until_the_answer(exchange: Exchange, tmp_path: Path) -> None:
    async with rtp_peer(FROM_CALLER) as anna, rtp_peer(FROM_CALLEE) as bob:
        callee = Script("callee").invited().answer("180 Ringing").pause(2500)
        callee.answer("200 OK", sdp(bob.port)).asked("ACK").left()
        caller = (
            Script("caller")
            .ask("INVITE", sdp(anna.port))
            .told(100, optional=True)
            .told(183, has=["m=audio [0-9]+ RTP/AVP 0"])
            .told(200)
            .ask("ACK")
            .pause(2000)
            .leaves()
        )
        async with sipp(callee, tmp_path, port=exchange.callee) as far:
            async with sipp(caller, tmp_path, remote=exchange.gateway.sip) as near:
                await asyncio.sleep(2.6)
                ringing = anna.audio()
                anna.arrivals.clear()
                bob.remote = ("127.0.0.1", await gateway_port(far))
                await bob.talk(1.5)
                await near.finished()
                await far.finished()
    assert 0.7 < seconds_of_tone(ringing, 425) <= 1.2, "one second of five"
    assert rms(ringing[-4000:]) < 0.001
    assert ringing.size > 14_000, "silence is sent as such"
    spoken = anna.audio()
    assert seconds_of_tone(spoken, FROM_CALLEE) > 1
    assert purity(spoken[-8000:], 425) < 0.05, "the tone is over"


@pytest.mark.parametrize("early", [True, False], ids=["early media", "ringback"])
async def test_a_browser_hears_how_its_call_rings(exchange: Exchange, tmp_path: Path, early: bool) -> None:
    running = exchange.gateway
    async with rtp_peer(FROM_CALLEE) as bob, webrtc_peer(running) as browser:
        callee = Script("callee").invited()
        callee.answer(*(("183 Session Progress", sdp(bob.port)) if early else ("180 Ringing",)))
        callee.pause(4000).answer("486 Busy Here").asked("ACK")
        async with sipp(callee, tmp_path, port=exchange.callee) as far:
            new = {"to": "+4930123456", "trunk": "carrier"}
            call = await running.post("/api/v1/calls", new, status=201)
            session = await running.post(f"/api/v1/calls/{call['id']}/sessions", {}, status=201)
            await browser.talk(call["id"], FROM_CALLER, token=session["token"])
            bob.remote = ("127.0.0.1", await gateway_port(far))
            await bob.talk(3)
            await far.finished()
        await browser.frame("call-ended", 5)
        heard = FROM_CALLEE if early else 425.0
        assert seconds_of_tone(browser.audio(), heard, rate=browser.heard_rate) > 0.5
        if early:
            assert seconds_of_tone(bob.audio(), FROM_CALLER) > 0.5
        else:
            assert bob.arrivals == []


async def test_a_browser_learns_that_it_is_held(running: Gateway, tmp_path: Path) -> None:
    caller = Script("caller").calls(sdp(RTP)).pause(300)
    caller.renews(sdp(RTP, direction="sendonly"), has=says("recvonly")).pause(300)
    caller.renews(sdp(RTP), has=says("sendrecv")).pause(300).leaves()
    async with webrtc_peer(running) as browser:
        async with sipp(caller, tmp_path, remote=running.sip) as anna:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], FROM_CALLEE)
            await anna.finished()
        await browser.frame("call-ended", 5)
        states = [frame["call"] for frame in browser.frames if frame["type"] == "call-state"]
        held = [any(leg["held"] for leg in state["legs"]) for state in states]
        assert True in held, states
        assert held[-1] is False


async def test_a_softphone_holds(exchange: Exchange, tmp_path: Path) -> None:
    callee = Script("callee").called(sdp(RTP))
    callee.renewed(sdp(RTP, direction="recvonly"), has=says("sendonly"))
    callee.renewed(sdp(RTP), has=says("sendrecv")).left()
    async with sipp(callee, tmp_path, port=exchange.callee) as far, phone(tmp_path / "phone") as softphone:
        host, port = exchange.gateway.sip
        call = await softphone.call(f"sip:+4930123456@{host}:{port}")
        await softphone.event("state", call=call, state="CONFIRMED")
        await softphone.event("media", call=call, status="active")
        await softphone.hold(call)
        await softphone.event("media", call=call, status="local-hold")
        await softphone.resume(call)
        newest = (await exchange.gateway.calls())[0]["id"]

        async def resumed() -> bool:
            events = (await exchange.gateway.get(f"/api/v1/calls/{newest}/events"))["items"]
            return events[-1]["type"] == "call.resumed"

        await eventually(resumed, "call.resumed")
        await softphone.hang_up(call)
        await far.finished()
    types = [event["type"] for event in await history(exchange.gateway)]
    assert types.count("call.held") == types.count("call.resumed") == 1
