"""Transfers on the wire: REFER handled, passed on and refused, Replaces, and the caller who comes back."""

import asyncio
import re
import wave
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import pytest_asyncio

from tests.interop.gateway import Gateway, eventually, gateway
from tests.interop.peers import Sipp, sipp
from tests.interop.pjsua_peer import phone
from tests.interop.script import Script, sdp
from tests.interop.tone import seconds_of_tone
from tests.interop.webrtc_peer import webrtc_peer
from tests.ports import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

RTP = 6000
TONE = 440.0
"""Of pjsua."""
CAROL, NOBODY, FORBIDDEN = "3001", "3999", "9001"
PASSES, REFUSES = "127.0.0.2", "127.0.0.3"


class Office:
    """A gateway that sends calls to Bob, but for those to Carol, and none to numbers that begin with 9."""

    def __init__(self, running: Gateway, bob: int, carol: int) -> None:
        self.gateway = running
        self.bob, self.carol = bob, carol

    def refer_to(self, number: str, headers: str = "") -> str:
        return f"Refer-To: <sip:{number}@127.0.0.1:{self.gateway.sip_port}{headers}>\n"


@asynccontextmanager
async def opened(folder: Path, **settings: str) -> AsyncIterator[Office]:
    """An office of its own."""
    bob, carol = free_port(), free_port()
    tables = folder / "gateway.toml"
    tables.write_text(
        f"""
[[trunks]]
name = "carrier"
addresses = ["127.0.0.1/32"]
uri = "sip:127.0.0.1:{bob}"
ringback = "eu"

[[trunks]]
name = "passes"
addresses = ["{PASSES}/32"]
transfer = "pass"

[[trunks]]
name = "refuses"
addresses = ["{REFUSES}/32"]
transfer = "refuse"

[[routes]]
name = "carol"
match = {{ to = "^3001" }}
target = {{ uri = "sip:carol@127.0.0.1:{carol}" }}

[[routes]]
name = "nobody"
match = {{ to = "^3999" }}
target = {{ uri = "sip:nobody@127.0.0.1:{free_port()}" }}

[[routes]]
name = "sales"
match = {{ to = "^8" }}
target = {{ browser = "*" }}

[[routes]]
name = "closed"
match = {{ to = "^9" }}
target = {{ reject = 403 }}

[[routes]]
name = "bob"
target = {{ trunk = "carrier" }}
"""
    )
    async with gateway(folder, GATEWAY_CONFIG=str(tables), **settings) as running:
        yield Office(running, bob, carol)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def office(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Office]:
    async with opened(tmp_path_factory.mktemp("transfer")) as there:
        yield there


async def play(
    office: Office, folder: Path, caller: Script, host: str = "127.0.0.1", **callees: Script
) -> Sipp:
    """Play every side to its end; gives the caller."""
    ports = {"bob": office.bob, "carol": office.carol}
    async with AsyncExitStack() as stack:
        there = [
            await stack.enter_async_context(sipp(script, folder, port=ports[name]))
            for name, script in callees.items()
        ]
        anna = await stack.enter_async_context(sipp(caller, folder, remote=office.gateway.sip, host=host))
        await asyncio.gather(anna.finished(), *(peer.finished() for peer in there))
        return anna


async def history(office: Office) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The newest call, once it is over, and its events."""
    call = await office.gateway.ended((await office.gateway.calls())[0]["id"])
    events = (await office.gateway.get(f"/api/v1/calls/{call['id']}/events"))["items"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    ends = [event for event in events if event["type"] in ("call.completed", "call.failed", "call.canceled")]
    assert ends == events[-1:], "one terminal event, and it is the last"
    return call, events


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events if event["type"].startswith("call.transfer")]


def notified(script: Script, status: str, state: str) -> Script:
    has = [f"SIP/2.0 {status}", f"Subscription-State: {state}", "Event: refer", "message/sipfrag"]
    return script.asked("NOTIFY", has=has).answer("200 OK")


def transfers(script: Script, refer_to: str, *statuses: str) -> Script:
    """Ask for a transfer, and hear how it goes."""
    script.ask("REFER", headers=refer_to + "Referred-By: <sip:bob@example.org>\n").told(202)
    for status in statuses[:-1]:
        notified(script, status, "active;expires=")
    return notified(script, statuses[-1], "terminated;reason=noresource")


async def test_the_callee_transfers_the_caller(office: Office, tmp_path: Path) -> None:
    bob = Script("callee").called(sdp(RTP)).pause(100)
    transfers(bob, office.refer_to(CAROL), "100 Trying", "180 Ringing", "200 OK").left()
    carol = Script("callee").invited(has=["Referred-By: <sip:bob@example.org>", r"From: .*74950001122"])
    carol.answer("180 Ringing").pause(200).answer("200 OK", sdp(RTP)).asked("ACK").left()
    caller = Script("caller").calls(sdp(RTP)).pause(1500).leaves()
    await play(office, tmp_path, caller, bob=bob, carol=carol)
    call, events = await history(office)
    assert types(events) == ["call.transfer-requested", "call.transferred"]
    done = next(event for event in events if event["type"] == "call.transferred")["data"]
    assert (done["kind"], done["side"]) == ("blind", "callee")
    assert {leg["id"] for leg in call["legs"]} >= {done["leg_id"], done["new_leg_id"]}
    assert (call["status"], call["hangup_cause"], call["hangup_source"]) == (
        "completed",
        "normal_clearing",
        "caller",
    )


async def test_the_caller_transfers_the_callee(office: Office, tmp_path: Path) -> None:
    caller = Script("caller").calls(sdp(RTP)).pause(100)
    transfers(caller, office.refer_to(CAROL), "100 Trying", "180 Ringing", "200 OK").left()
    carol = Script("callee").called(sdp(RTP)).pause(300).leaves()
    bob = Script("callee").called(sdp(RTP)).left()
    await play(office, tmp_path, caller, bob=bob, carol=carol)
    call, events = await history(office)
    assert types(events) == ["call.transfer-requested", "call.transferred"]
    assert call["hangup_source"] == "caller", "Carol has the caller's place"


async def test_who_is_transferred_comes_back_when_nobody_answers(office: Office, tmp_path: Path) -> None:
    bob = Script("callee").called(sdp(RTP)).pause(100)
    transfers(bob, office.refer_to(CAROL), "100 Trying", "180 Ringing", "486 Busy Here").pause(300).leaves()
    carol = Script("callee").invited().answer("180 Ringing").pause(100).answer("486 Busy Here").asked("ACK")
    caller = Script("caller").calls(sdp(RTP)).left()
    await play(office, tmp_path, caller, bob=bob, carol=carol)
    call, events = await history(office)
    assert types(events) == ["call.transfer-requested", "call.transfer-failed"]
    failed = next(event for event in events if event["type"] == "call.transfer-failed")["data"]
    assert failed["sip_response_code"] == 486
    assert (call["status"], call["hangup_source"]) == ("completed", "callee")


async def test_who_asked_may_ask_anew_how_far_it_is_and_then_hear_no_more(
    office: Office, tmp_path: Path
) -> None:
    bob = Script("callee").called(sdp(RTP)).pause(100)
    bob.ask("REFER", headers=office.refer_to(CAROL)).told(202)
    notified(bob, "100 Trying", "active;expires=")
    for expires, state in (("60", "active;expires=60"), ("0", "terminated;reason=timeout")):
        bob.ask("SUBSCRIBE", headers=f"Event: refer\nExpires: {expires}\n").told(
            200, has=[f"Expires: {expires}"]
        )
        notified(bob, "100 Trying", state)
    bob.left()
    carol = Script("callee").invited().pause(700).answer("200 OK", sdp(RTP)).asked("ACK").left()
    caller = Script("caller").calls(sdp(RTP)).pause(1500).leaves()
    await play(office, tmp_path, caller, bob=bob, carol=carol)
    _, events = await history(office)
    assert types(events) == ["call.transfer-requested", "call.transferred"], "it was not taken back"


async def test_a_transfer_goes_where_calls_may_go(office: Office, tmp_path: Path) -> None:
    bob = Script("callee").called(sdp(RTP)).pause(100)
    bob.ask("REFER", headers=office.refer_to(FORBIDDEN)).told(403).pause(100).leaves()
    caller = Script("caller").calls(sdp(RTP)).left()
    await play(office, tmp_path, caller, bob=bob)
    _, events = await history(office)
    assert types(events) == ["call.transfer-requested", "call.transfer-failed"]


async def test_a_trunk_may_refuse_transfers(office: Office, tmp_path: Path) -> None:
    caller = Script("caller").calls(sdp(RTP)).pause(100)
    caller.ask("REFER", headers=office.refer_to(CAROL)).told(403).pause(100).leaves()
    bob = Script("callee").called(sdp(RTP)).left()
    await play(office, tmp_path, caller, host=REFUSES, bob=bob)
    _, events = await history(office)
    assert types(events) == ["call.transfer-requested", "call.transfer-failed"]


@pytest.mark.parametrize("answers", [True, False])
async def test_the_api_transfers_a_call(office: Office, tmp_path: Path, answers: bool) -> None:
    carol = Script("callee").invited().answer("180 Ringing")
    caller, bob = Script("caller").calls(sdp(RTP)), Script("callee").called(sdp(RTP))
    if answers:
        carol.answer("200 OK", sdp(RTP)).asked("ACK").left()
        caller.pause(1500).leaves()
        bob.left()
    else:
        carol.answer("486 Busy Here").asked("ACK")
        caller.left()
        bob.pause(1500).leaves()

    async def order() -> None:
        async def talking() -> Any:
            calls = await office.gateway.calls()
            return next((call for call in calls if call["status"] == "in-progress"), None)

        call = await eventually(talking, "a call that runs")
        body = {"to": f"sip:carol@localhost:{office.carol}", "timeout": 5}
        taken = await office.gateway.post(f"/api/v1/calls/{call['id']}/actions/transfer", body, status=202)
        assert taken["id"] == call["id"]

    await asyncio.gather(play(office, tmp_path, caller, bob=bob, carol=carol), order())
    call, events = await history(office)
    assert types(events) == [
        "call.transfer-requested", "call.transferred" if answers else "call.transfer-failed"
    ]  # fmt: skip
    assert (call["status"], call["hangup_source"]) == ("completed", "caller" if answers else "callee")


@pytest.mark.parametrize("succeeds", [True, False])
async def test_a_refer_is_passed_on(office: Office, tmp_path: Path, succeeds: bool) -> None:
    last = "200 OK" if succeeds else "603 Decline"
    target = "<sip:dave@192.0.2.7?X-Note=a%20b>"
    caller = Script("caller").calls(sdp(RTP)).pause(100)
    transfers(caller, f"Refer-To: {target}\n", "100 Trying", "180 Ringing", last).pause(100).leaves()
    bob = Script("callee").called(sdp(RTP))
    bob.asked(
        "REFER",
        has=[r"Refer-To: <sip:dave@192\.0\.2\.7\?X-Note=a%20b>", "Referred-By: <sip:bob@example.org>"],
    )
    bob.answer("202 Accepted")
    for status, state in (
        ("100 Trying", "active"),
        ("180 Ringing", "active"),
        (last, "terminated;reason=noresource"),
    ):
        headers = f"Event: refer\nSubscription-State: {state}\nContent-Type: message/sipfrag\n"
        bob.notify(headers, f"SIP/2.0 {status}\n").told(200)
    bob.left()
    await play(office, tmp_path, caller, host=PASSES, bob=bob)
    _, events = await history(office)
    assert types(events) == [
        "call.transfer-requested", "call.transferred" if succeeds else "call.transfer-failed"
    ]  # fmt: skip


async def test_a_hold_by_who_leaves_is_over(office: Office, tmp_path: Path) -> None:
    bob = Script("callee").called(sdp(RTP)).pause(100).renews(sdp(RTP, direction="sendonly"))
    transfers(bob, office.refer_to(CAROL), "100 Trying", "180 Ringing", "200 OK").left()
    carol = Script("callee").called(sdp(RTP)).left()
    caller = Script("caller").calls(sdp(RTP)).renewed(sdp(RTP, direction="recvonly"), has=["a=sendonly"])
    caller.renewed(sdp(RTP), has=["a=sendrecv"]).pause(200).leaves()
    await play(office, tmp_path, caller, bob=bob, carol=carol)
    _, events = await history(office)
    assert types(events) == ["call.transfer-requested", "call.transferred"]


def heard(recording: Path) -> float:
    """Seconds of pjsua's tone in a recording."""
    with wave.open(str(recording)) as sound:
        rate, frames = sound.getframerate(), sound.readframes(sound.getnframes())
    return seconds_of_tone(np.frombuffer(frames, np.int16) / 32768.0, TONE, rate=rate)


async def test_softphones_hear_each_other_after_a_blind_transfer(office: Office, tmp_path: Path) -> None:
    host, port = office.gateway.sip
    anna_hears, carol_hears = tmp_path / "anna.wav", tmp_path / "carol.wav"
    async with (
        phone(tmp_path / "a", record=anna_hears) as anna,
        phone(tmp_path / "b", port=office.bob, auto=200) as bob,
        phone(tmp_path / "c", port=office.carol, auto=200, record=carol_hears) as carol,
    ):
        call = await anna.call(f"sip:+4930123@{host}:{port}")
        theirs = (await bob.event("incoming"))["call"]
        await anna.event("state", call=call, state="CONFIRMED")
        await bob.transfer(theirs, f"sip:{CAROL}@{host}:{port}")
        await bob.event("transferred", code=200, final=True)
        await bob.event("state", call=theirs, state="DISCONNECTED")
        await carol.event("state", state="CONFIRMED")
        await asyncio.sleep(1.5)
        await anna.hang_up(call)
        await carol.event("state", state="DISCONNECTED")
    _, events = await history(office)
    assert types(events) == ["call.transfer-requested", "call.transferred"]
    assert heard(carol_hears) > 1, "nobody else sends her a tone"
    assert heard(anna_hears) > 1


async def test_a_target_that_has_moved_is_followed(office: Office, tmp_path: Path) -> None:
    host, port = office.gateway.sip
    contact = f"Contact: <sip:carol@127.0.0.1:{office.bob}>\n"
    async with (
        phone(tmp_path / "a") as anna,
        phone(tmp_path / "b", port=office.bob, auto=200) as bob,
        sipp("uas_rejects", tmp_path, port=office.carol, status=302, headers=contact) as carol,
    ):
        call = await anna.call(f"sip:+4930123@{host}:{port}")
        theirs = (await bob.event("incoming"))["call"]
        await anna.event("state", call=call, state="CONFIRMED")
        await bob.transfer(theirs, f"sip:{CAROL}@{host}:{port}")
        await carol.finished()
        moved = (await bob.event("incoming"))["call"]
        await bob.event("transferred", code=200, final=True)
        await bob.event("state", call=theirs, state="DISCONNECTED")
        await anna.hang_up(call)
        await bob.event("state", call=moved, state="DISCONNECTED")
    _, events = await history(office)
    assert types(events) == ["call.transfer-requested", "call.transferred"]


async def test_an_attended_transfer_of_softphones(office: Office, tmp_path: Path) -> None:
    assert not await consult(office, tmp_path)
    reasons = {call["reason"] for call in (await office.gateway.calls())[:2]}
    assert "transferred" in reasons


async def test_an_attended_transfer_between_media_workers(tmp_path: Path) -> None:
    """Carol's telephone is asked to replace its call by one on Anna's worker (RFC 3891)."""
    (tmp_path / "gateway").mkdir()
    async with opened(tmp_path / "gateway", MEDIA_WORKERS="2") as office:
        for number, way in enumerate((consult, consult_early, consult_browser)):
            (folder := tmp_path / str(number)).mkdir()
            assert await way(office, folder)


async def consult(office: Office, tmp_path: Path) -> bool:
    """Bob holds Anna, asks Carol, and joins the two; both his calls are over, and Anna's hold too.

    Whether Carol's telephone had to replace her call.
    """
    host, port = office.gateway.sip
    carol_hears = tmp_path / "carol.wav"
    async with (
        phone(tmp_path / "a") as anna,
        phone(tmp_path / "b", port=office.bob, auto=200) as bob,
        phone(tmp_path / "c", port=office.carol, auto=200, record=carol_hears) as carol,
    ):
        call = await anna.call(f"sip:+4930123@{host}:{port}")
        first = (await bob.event("incoming"))["call"]
        await anna.event("state", call=call, state="CONFIRMED")
        await bob.hold(first)
        await anna.event("media", status="remote-hold")
        second = await bob.call(f"sip:{CAROL}@{host}:{port}")
        await bob.event("state", call=second, state="CONFIRMED")
        await carol.event("state", state="CONFIRMED")
        await bob.attended_transfer(first, second)
        await bob.event("transferred", code=200, final=True)
        for number in (first, second):
            await bob.event("state", call=number, state="DISCONNECTED")
        await anna.event("media", status="active")
        await asyncio.sleep(1.5)
        await anna.hang_up(call)
        await carol.event("state", state="DISCONNECTED")
        replaced = any("\nReplaces: " in invite for invite in carol.received("INVITE"))
    calls = (await office.gateway.calls())[:2]
    assert [one["status"] for one in calls] == ["completed"] * 2
    told = [await office.gateway.get(f"/api/v1/calls/{one['id']}/events") for one in calls]
    kinds = sorted(types(events["items"]) for events in told)
    assert kinds == [[], ["call.transfer-requested", "call.transferred"]]
    assert heard(carol_hears) > 1
    return replaced


@pytest.mark.parametrize("status", [200, 486])
async def test_a_semi_attended_transfer_of_softphones(office: Office, tmp_path: Path, status: int) -> None:
    assert not await consult_early(office, tmp_path, status)


async def consult_early(office: Office, folder: Path, status: int = 200) -> bool:
    """Bob joins Anna to Carol while her telephone still rings; whether it had to replace its call.

    If she is busy, Bob and Anna are together again.
    """
    host, port = office.gateway.sip
    async with (
        phone(folder / "a") as anna,
        phone(folder / "b", port=office.bob, auto=200, record=folder / "b.wav") as bob,
        phone(folder / "c", port=office.carol, auto=180, record=folder / "c.wav") as carol,
    ):
        call = await anna.call(f"sip:+4930123@{host}:{port}")
        first = (await bob.event("incoming"))["call"]
        await anna.event("state", call=call, state="CONFIRMED")
        second = await bob.call(f"sip:{CAROL}@{host}:{port}")
        await bob.event("state", call=second, state="EARLY")
        theirs = (await carol.event("incoming"))["call"]
        await bob.attended_transfer(first, second)
        await bob.event("transferred", code=180)
        await bob.event("state", call=second, state="DISCONNECTED")
        await carol.answer(theirs, status)
        await bob.event("transferred", code=status, final=True)
        if status == 200:
            await bob.event("state", call=first, state="DISCONNECTED")
        await asyncio.sleep(1.5)
        await anna.hang_up(call)
        await (carol if status == 200 else bob).event("state", state="DISCONNECTED", code=200)
        replaced = any("\nReplaces: " in invite for invite in carol.received("INVITE"))
    calls = (await office.gateway.calls())[:2]
    assert [one["status"] for one in calls] == ["canceled", "completed"]
    told = await office.gateway.get(f"/api/v1/calls/{calls[-1]['id']}/events")
    outcome = "call.transferred" if status == 200 else "call.transfer-failed"
    assert types(told["items"]) == ["call.transfer-requested", outcome]
    assert heard(folder / ("c.wav" if status == 200 else "b.wav")) > 1
    return replaced


@pytest.mark.parametrize("answers", [True, False])
async def test_a_blind_transfer_to_browsers(office: Office, tmp_path: Path, answers: bool) -> None:
    """They are rung by a call of their own, to which Anna comes; without an answer she is Bob's again."""
    host, port = office.gateway.sip
    async with (
        webrtc_peer(office.gateway) as browser,
        phone(tmp_path / "a", auto=200) as anna,
        phone(tmp_path / "b", port=office.bob, auto=200, record=tmp_path / "bob.wav") as bob,
    ):
        call = await anna.call(f"sip:+4930123@{host}:{port}")
        theirs = (await bob.event("incoming"))["call"]
        await anna.event("state", call=call, state="CONFIRMED")
        await bob.hold(theirs)
        await anna.event("media", status="remote-hold")
        await bob.transfer(theirs, f"sip:8001@{host}:{port}")
        ringing = (await browser.frame("incoming-call"))["call"]
        assert (ringing["status"], ringing["to"]) == ("ringing", "8001")
        await bob.event("transferred", code=180)
        if answers:
            await browser.talk(ringing["id"], 700.0)
            await bob.event("transferred", code=200, final=True)
            await bob.event("state", call=theirs, state="DISCONNECTED")
            await anna.event("media", status="active")
            browser.heard.clear()
            await asyncio.sleep(1.5)
            assert seconds_of_tone(browser.audio(), TONE, rate=browser.heard_rate) > 0.5
            await browser.request("left-call", type="leave-call", call_id=ringing["id"])
        else:
            await browser.request("left-call", type="leave-call", call_id=ringing["id"])
            await bob.event("transferred", final=True)
            await bob.resume(theirs)
            await asyncio.sleep(1.5)
            await bob.hang_up(theirs)
        await anna.event("state", call=call, state="DISCONNECTED")
    over = await office.gateway.ended(ringing["id"])
    assert over["status"] == ("completed" if answers else "canceled")
    before = next(one for one in await office.gateway.calls() if one["id"] != ringing["id"])
    assert (before["status"], before["reason"] == "transferred") == ("completed", answers)
    assert answers or heard(tmp_path / "bob.wav") > 1


async def test_a_semi_attended_transfer_to_browsers(office: Office, tmp_path: Path) -> None:
    host, port = office.gateway.sip
    async with (
        webrtc_peer(office.gateway) as browser,
        phone(tmp_path / "a") as anna,
        phone(tmp_path / "b", port=office.bob, auto=200) as bob,
    ):
        call = await anna.call(f"sip:+4930123@{host}:{port}")
        first = (await bob.event("incoming"))["call"]
        await anna.event("state", call=call, state="CONFIRMED")
        second = await bob.call(f"sip:8001@{host}:{port}")
        asked = (await browser.frame("incoming-call"))["call"]["id"]
        await bob.event("state", call=second, state="EARLY")
        browser.frames.clear()
        await bob.attended_transfer(first, second)
        again = (await browser.frame("incoming-call"))["call"]
        assert again["id"] != asked
        await browser.talk(again["id"], 700.0)
        await bob.event("transferred", code=200, final=True)
        for number in (first, second):
            await bob.event("state", call=number, state="DISCONNECTED")
        await asyncio.sleep(1.5)
        assert seconds_of_tone(browser.audio(), TONE, rate=browser.heard_rate) > 0.5
        await anna.hang_up(call)
        await browser.frame("call-ended")
    over = await office.gateway.ended(again["id"])
    assert (over["status"], over["hangup_source"]) == ("completed", "caller")


async def test_an_attended_transfer_to_a_browsers_call(office: Office, tmp_path: Path) -> None:
    assert not await consult_browser(office, tmp_path)


async def consult_browser(office: Office, folder: Path) -> bool:
    """Bob talks to Anna and to a browser, and joins the two; whether Anna's telephone replaced its call."""
    host, port = office.gateway.sip
    async with (
        webrtc_peer(office.gateway) as browser,
        phone(folder / "a", auto=200) as anna,
        phone(folder / "b", port=office.bob, auto=200) as bob,
    ):
        call = await anna.call(f"sip:+4930123@{host}:{port}")
        first = (await bob.event("incoming"))["call"]
        await anna.event("state", call=call, state="CONFIRMED")
        await bob.hold(first)
        await anna.event("media", status="remote-hold")
        second = await bob.call(f"sip:8001@{host}:{port}")
        browsers = (await browser.frame("incoming-call"))["call"]["id"]
        await browser.talk(browsers, 700.0)
        await bob.event("state", call=second, state="CONFIRMED")
        await bob.attended_transfer(first, second)
        await bob.event("transferred", code=200, final=True)
        for number in (first, second):
            await bob.event("state", call=number, state="DISCONNECTED")
        browser.heard.clear()
        await asyncio.sleep(1.5)
        replaced = bool(anna.received("INVITE")) and "\nReplaces: " in anna.received("INVITE")[-1]
        assert seconds_of_tone(browser.audio(), TONE, rate=browser.heard_rate) > 0.5
        await browser.request("left-call", type="leave-call", call_id=browsers)
        await anna.event("state", state="DISCONNECTED")
    over = await office.gateway.ended(browsers)
    assert (over["status"], over["hangup_source"]) == ("completed", "callee")
    before = next(one for one in await office.gateway.calls() if one["id"] != browsers)
    assert (before["status"], before["reason"]) == ("completed", "transferred")
    return replaced


async def dialog(office: Office, status: int) -> str:
    """Replaces for the dialog of the newest call's callee, who answered so, as the gateway knows it."""
    call = (await office.gateway.calls())[0]["id"]
    told = (await office.gateway.get(f"/api/v1/calls/{call}/sip"))["items"]
    said = next(
        one["message"] for one in told if one["direction"] == "in" and f"SIP/2.0 {status}" in one["message"]
    )
    (call_id,) = re.findall(r"^Call-ID: (\S+)", said, re.M)
    (ours,) = re.findall(r"^From: .*;tag=(\S+)", said, re.M)
    (theirs,) = re.findall(r"^To: .*;tag=(\S+)", said, re.M)
    return f"{call_id};to-tag={ours};from-tag={theirs}"


async def test_an_invite_takes_the_place_of_a_leg(office: Office, tmp_path: Path) -> None:
    host, port = office.gateway.sip
    async with (
        phone(tmp_path / "a") as anna,
        phone(tmp_path / "b", port=office.bob, auto=200) as bob,
        phone(tmp_path / "c") as carol,
    ):
        call = await anna.call(f"sip:+4930123@{host}:{port}")
        await anna.event("state", call=call, state="CONFIRMED")
        named = await dialog(office, 200)
        wrong = await carol.call(f"sip:+4930123@{host}:{port}", Replaces=f"{named}x", Require="replaces")
        await carol.event("state", call=wrong, state="DISCONNECTED", code=481)
        await is_no_side(office, tmp_path, named)
        takes = await carol.call(f"sip:+4930123@{host}:{port}", Replaces=named, Require="replaces")
        await carol.event("state", call=takes, state="CONFIRMED")
        await bob.event("state", state="DISCONNECTED")
        await carol.hang_up(takes)
        await anna.event("state", call=call, state="DISCONNECTED")
    call_, events = await history(office)
    assert types(events) == ["call.transferred"]
    assert (call_["status"], call_["hangup_source"]) == ("completed", "callee")


async def is_no_side(office: Office, folder: Path, named: str) -> None:
    """Another trunk knows the dialog, and may not have it (RFC 3891 3)."""
    script = Script("caller").ask("INVITE", sdp(RTP), headers=f"Replaces: {named}\nRequire: replaces\n")
    script.told(100, optional=True).told(403).ask("ACK")
    async with sipp(script, folder, remote=office.gateway.sip, host=REFUSES) as stranger:
        await stranger.finished()
    refusal = (await office.gateway.get("/api/v1/refusals?rule=replaces"))["items"][0]
    assert refusal["reason"] == "trunk refuses is no side of the call that Replaces names"


async def test_what_rings_elsewhere_is_picked_up(office: Office, tmp_path: Path) -> None:
    """A pick-up that finds no codec lets it ring on (RFC 3891 3); the next one has the call."""
    host, port = office.gateway.sip
    async with (
        phone(tmp_path / "a") as anna,
        phone(tmp_path / "b", port=office.bob, auto=180) as bob,
        phone(tmp_path / "c", record=tmp_path / "c.wav") as carol,
    ):
        call = await anna.call(f"sip:+4930123@{host}:{port}")
        await anna.event("state", call=call, state="EARLY")
        named = await dialog(office, 180)
        headers = f"Replaces: {named}\nRequire: replaces\n"
        mute = Script("caller").ask("INVITE", sdp(RTP, 18), headers=headers).told(100, optional=True)
        async with sipp(mute.told(488).ask("ACK"), tmp_path, remote=office.gateway.sip) as dave:
            await dave.finished()
        takes = await carol.call(f"sip:+4930123@{host}:{port}", Replaces=named, Require="replaces")
        await carol.event("state", call=takes, state="CONFIRMED")
        await anna.event("state", call=call, state="CONFIRMED")
        await bob.event("state", state="DISCONNECTED")
        await asyncio.sleep(1.5)
        await anna.hang_up(call)
        await carol.event("state", call=takes, state="DISCONNECTED")
    over, _ = await history(office)
    assert (over["status"], over["hangup_source"]) == ("completed", "caller")
    assert heard(tmp_path / "c.wav") > 1


async def test_an_attended_transfer_is_passed_on(office: Office, tmp_path: Path) -> None:
    """Bob's telephone is told, in its own terms, to take Anna's place at Carol's, and does so by itself."""
    host, port = office.gateway.sip
    async with (
        phone(tmp_path / "a", host=PASSES) as anna,
        phone(tmp_path / "b", port=office.bob, auto=200) as bob,
        phone(tmp_path / "c", port=office.carol, auto=200, record=tmp_path / "c.wav") as carol,
    ):
        first = await anna.call(f"sip:+4930123@{host}:{port}")
        await anna.event("state", call=first, state="CONFIRMED")
        second = await anna.call(f"sip:{CAROL}@{host}:{port}")
        await anna.event("state", call=second, state="CONFIRMED")
        named = await dialog(office, 200)
        call_id, ours, hers = re.split(";(?:to|from)-tag=", named)
        await anna.attended_transfer(first, second)
        await anna.event("transferred", code=200, final=True)
        (refer,) = bob.received("REFER")
        (refer_to,) = re.findall(r"^Refer-To: .*Replaces=([^>]*)>", refer, re.M)
        assert unquote(refer_to) == f"{call_id};to-tag={hers};from-tag={ours}"
        assert f"\nReplaces: {call_id}" in carol.received("INVITE")[-1]
        await asyncio.sleep(1.5)
        await anna.event("state", call=second, state="DISCONNECTED")
        await anna.hang_up(first)
        await bob.event("state", state="DISCONNECTED")
    calls = [await office.gateway.ended(one["id"]) for one in (await office.gateway.calls())[:2]]
    told = [await office.gateway.get(f"/api/v1/calls/{one['id']}/events") for one in calls]
    kinds = sorted(types(events["items"]) for events in told)
    assert kinds == [[], ["call.transfer-requested", "call.transferred"]]
    assert heard(tmp_path / "c.wav") > 1


async def test_a_browsers_partner_transfers_it(office: Office, tmp_path: Path) -> None:
    caller = Script("caller").calls(sdp(RTP)).pause(300)
    transfers(caller, office.refer_to(CAROL), "100 Trying", "180 Ringing", "200 OK").left()
    async with (
        webrtc_peer(office.gateway) as browser,
        phone(tmp_path / "c", port=office.carol, auto=180) as carol,
    ):
        async with sipp(caller, tmp_path, remote=office.gateway.sip, service="8001") as anna:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 700.0)
            theirs = (await carol.event("incoming"))["call"]
            await carol.answer(theirs)
            await anna.finished()
        await asyncio.sleep(1)
        await carol.hang_up(theirs)
        await browser.frame("call-ended", 5)
        assert seconds_of_tone(browser.audio(), TONE, rate=browser.heard_rate) > 0.5
    over, events = await history(office)
    assert types(events) == ["call.transfer-requested", "call.transferred"]
    assert over["hangup_source"] == "caller", "Carol has the caller's place"
