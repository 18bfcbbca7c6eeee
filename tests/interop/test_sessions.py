"""What keeps a session: reliable ringing and session timers, with SIPp as caller and as callee."""

from pathlib import Path

import pytest

from tests.interop.carriers import Carriers
from tests.interop.exchange import history, play
from tests.interop.gateway import Gateway
from tests.interop.lasting import Lasting
from tests.interop.peers import rtp_peer, sipp
from tests.interop.script import Script, sdp
from tests.interop.webrtc_peer import webrtc_peer

pytestmark = pytest.mark.asyncio(loop_scope="session")

RTP = 6000


async def test_a_caller_pracks_and_refreshes(running: Gateway, tmp_path: Path) -> None:
    async with rtp_peer(440) as phone, webrtc_peer(running) as browser:
        async with sipp("uac_refreshes", tmp_path, remote=running.sip, audio_port=phone.port) as caller:
            call = (await browser.frame("incoming-call"))["call"]
            await browser.talk(call["id"], 440)
            await caller.finished()
        ended = await running.ended(call["id"])
    assert (ended["status"], ended["hangup_source"]) == ("completed", "caller")


def reliable(number: int) -> str:
    """The headers of a reliable provisional response (RFC 3262 3)."""
    return f"Require: 100rel\nRSeq: {number}\n"


async def test_each_reliable_response_of_a_callee_gets_its_prack(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3262 4: in the order of RSeq; one that is repeated, and one after a gap, get none."""
    callee = Script("callee").invited(has=["Supported: [^\n]*100rel"])
    callee.answer("183 Session Progress", sdp(RTP), headers=reliable(776))
    callee.asked("PRACK", has=["RAck: 776 1 INVITE", "CSeq: 2 PRACK"], keep="first").answer("200 OK")
    callee.answer("183 Session Progress", sdp(RTP), headers=reliable(776), to="call")
    callee.answer("180 Ringing", headers=reliable(779), to="call").pause(200)
    callee.answer("180 Ringing", headers=reliable(777), to="call")
    callee.asked("PRACK", has=["RAck: 777 1 INVITE", "CSeq: 3 PRACK"]).answer("200 OK")
    callee.answer("200 OK", to="call").asked("ACK", has=["CSeq: 1 ACK"]).left()
    caller = Script("caller").ask("INVITE", sdp(RTP)).told(100, optional=True)
    caller.told(183, has=["m=audio"]).told(180, optional=True).told(200).ask("ACK").pause(100).leaves()
    await play(carriers, tmp_path, caller, callee)
    await history(carriers.gateway)


async def test_both_sides_may_ring_reliably(carriers: Carriers, tmp_path: Path) -> None:
    """The trunk requires 100rel of both: each leg has numbers of its own."""
    callee = Script("callee").invited(has=["Require: 100rel"])
    callee.answer("180 Ringing", headers=reliable(5)).asked("PRACK", has=["RAck: 5 1 INVITE"]).answer(
        "200 OK"
    )
    callee.answer("200 OK", sdp(RTP), to="call").asked("ACK").left()
    caller = Script("caller").ask("INVITE", sdp(RTP), headers="Supported: 100rel\n").told(100, optional=True)
    caller.told(180, has=["Require: [^\n]*100rel", "RSeq: [0-9]+"], number="RSeq")
    caller.ask("PRACK", headers="RAck: [$rseq] 1 INVITE\n").told(200, has=["CSeq: 2 PRACK"])
    caller.told(200, has=["CSeq: 1 INVITE"]).ask("ACK").pause(100).leaves()
    await play(carriers, tmp_path, caller, callee, service=carriers.DEMANDING)
    await history(carriers.gateway)


async def test_who_cannot_ring_reliably_is_told_that_he_must(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 21.4.15, 8.2.2.3; a callee's 420 is the end of the call."""
    caller = (
        Script("caller").ask("INVITE", sdp(RTP), headers="Require: teleportation\n").told(100, optional=True)
    )
    caller.told(420, has=["Unsupported: teleportation"]).ask("ACK")
    async with sipp(caller, tmp_path, remote=carriers.gateway.sip) as anna:
        await anna.finished()
    strict = Script("caller").ask("INVITE", sdp(RTP)).told(100, optional=True)
    strict.told(421, has=["Require: 100rel"]).ask("ACK")
    async with sipp(strict, tmp_path, remote=carriers.gateway.sip, host=carriers.STRICT) as anna:
        await anna.finished()
    callee = Script("callee").invited(has=["Require: 100rel"])
    callee.answer("420 Bad Extension", headers="Unsupported: 100rel\n").asked("ACK")
    refused = Script("caller").ask("INVITE", sdp(RTP)).told(100, optional=True).told(420).ask("ACK")
    await play(carriers, tmp_path, refused, callee, service=carriers.DEMANDING)


async def test_an_interval_too_small_for_the_callee_is_raised(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 4028 7.3: 422, and the INVITE again with the Min-SE it names; the same To without a tag."""
    offered = ["Supported: [^\n]*timer", "Session-Expires: 1800"]
    callee = Script("callee").invited(has=offered)
    callee.answer("422 Session Interval Too Small", headers="Min-SE: 2000\n").asked("ACK")
    again = ["Session-Expires: 2000", "Min-SE: 2000", "CSeq: 2 INVITE", "To: <sip:[^;\n]*>\r?\n"]
    callee.invited(has=again).answer("180 Ringing")
    callee.answer("200 OK", sdp(RTP), headers="Require: timer\nSession-Expires: 2000;refresher=uac\n")
    await play(carriers, tmp_path, Script("caller").calls(sdp(RTP)).leaves(), callee.asked("ACK").left())
    await history(carriers.gateway)


async def test_a_callee_that_refreshes_is_answered(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 4028 9: by UPDATE and by re-INVITE; too small an interval is 422."""
    said = "Require: timer\nSession-Expires: 1800;refresher=uas\n"
    mine = "Supported: timer\nSession-Expires: 1800;refresher=uac\n"
    callee = Script("callee").invited().answer("200 OK", sdp(RTP), headers=said).asked("ACK").pause(100)
    callee.ask("UPDATE", headers=mine).told(200, has=["Session-Expires: 1800;refresher=uac"])
    callee.ask("UPDATE", headers="Supported: timer\nSession-Expires: 30\n").told(422, has=["Min-SE: 90"])
    callee.ask("INVITE", sdp(RTP), headers=mine).told(100, optional=True)
    callee.told(200, has=["Session-Expires: 1800;refresher=uac", "m=audio"]).ask("ACK").leaves()
    caller = Script("caller").calls(sdp(RTP)).left()
    await play(carriers, tmp_path, caller, callee)
    await history(carriers.gateway)


async def test_sessions_of_a_minute_are_refreshed_or_end(lasting: Lasting) -> None:
    """RFC 4028 7.2, 10: our UPDATE at half the interval; BYE a third of it before it expires in vain."""
    outcomes = await lasting.outcomes()
    told = {name: why for name, (_, why) in outcomes.items()}
    assert told == {
        "refreshed": "bye",
        "silent-callee": "Session expired",
        "silent-caller": "Session expired",
    }
    lasted = [outcomes[name][0] for name in ("refreshed", "silent-callee", "silent-caller")]
    assert lasted == pytest.approx([45, 60, 60], abs=3)
