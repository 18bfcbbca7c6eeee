"""Dialogs on the wire: forks, requests that cross, routes and targets; SIPp on both sides of the gateway."""

from pathlib import Path
from typing import Any

import pytest

from tests.interop.carriers import Carriers
from tests.interop.exchange import history, play
from tests.interop.script import Script, sdp

pytestmark = pytest.mark.asyncio(loop_scope="session")

RTP = 6000
HERE = r"127\.0\.0\.1:[0-9]+"


async def newest(carriers: Carriers) -> dict[str, Any]:
    """How the last call ended."""
    call: dict[str, Any] = await carriers.gateway.ended((await carriers.gateway.calls())[0]["id"])
    return call


@pytest.mark.usefixtures("lasting")
async def test_of_many_forks_the_first_to_answer_wins(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 12.1.2, 13.2.2.4: a To tag a fork; each later 2xx is acknowledged and hung up."""
    callee = Script("callee").invited()
    for fork in ("one", "two", "three"):
        callee.at(f"sip:{fork}@[local_ip]:[local_port]").answer("180 Ringing", tag=f";tag={fork}")
    callee.at("sip:two@[local_ip]:[local_port]").answer("200 OK", sdp(RTP), tag=";tag=two")
    callee.asked("ACK", has=[f"^ACK sip:two@{HERE} ", "To: [^\n]*;tag=two"])
    for fork in ("one", "four"):
        callee.at(f"sip:{fork}@[local_ip]:[local_port]")
        callee.answer("200 OK", sdp(RTP + 2), to="call", tag=f";tag={fork}")
        callee.asked("ACK", has=[f"^ACK sip:{fork}@{HERE} ", f"To: [^\n]*;tag={fork}"])
        callee.asked("BYE", has=[f"^BYE sip:{fork}@{HERE} ", f"To: [^\n]*;tag={fork}"]).answer("200 OK")
    callee.asked("BYE", has=[f"^BYE sip:two@{HERE} ", "To: [^\n]*;tag=two"]).answer("200 OK")
    await play(carriers, tmp_path, Script("caller").calls(sdp(RTP)).pause(2000).leaves(), callee)
    assert (await history(carriers.gateway))[-1]["type"] == "call.completed"


async def test_one_fork_of_several_may_leave(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 12.3, 15.1.2: BYE ends one early dialog; the other fork rings on and answers."""
    callee = Script("callee").invited().answer("180 Ringing").answer("180 Ringing", tag=";tag=two")
    callee.ask("BYE").told(200).pause(100).answer("200 OK", sdp(RTP), to="call", tag=";tag=two")
    callee.asked("ACK", has=["To: [^\n]*;tag=two"])
    callee.asked("BYE", has=["To: [^\n]*;tag=two"]).answer("200 OK")
    await play(carriers, tmp_path, Script("caller").calls(sdp(RTP)).pause(200).leaves(), callee)
    assert (await history(carriers.gateway))[-1]["type"] == "call.completed"


async def test_a_cancel_waits_for_the_first_provisional_response(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 9.1. SIPp would fail at a CANCEL that comes while it pauses."""
    caller = Script("caller").ask("INVITE", sdp(RTP)).told(100).pause(100).ask("CANCEL").told(200).told(487)
    callee = Script("callee").invited().pause(800).answer("180 Ringing").asked("CANCEL").answer("200 OK")
    callee.answer("487 Request Terminated", to="call").asked("ACK")
    await play(carriers, tmp_path, caller.ask("ACK"), callee)
    assert (await newest(carriers))["status"] == "canceled"


async def test_an_answer_that_crosses_our_cancel_is_hung_up(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 9.1, 15: the 2xx is acknowledged and the session ended at once."""
    caller = Script("caller").ask("INVITE", sdp(RTP)).told(100, optional=True).told(180).ask("CANCEL")
    callee = Script("callee").invited().answer("180 Ringing").asked("CANCEL", keep="cancel")
    callee.answer("200 OK", sdp(RTP), to="call").asked("ACK").asked("BYE", keep="bye")
    callee.answer("200 OK", to="bye").answer("200 OK", to="cancel", tag="")
    await play(carriers, tmp_path, caller.told(200).told(487).ask("ACK"), callee)
    assert (await newest(carriers))["status"] == "canceled"


async def test_a_cancel_that_crosses_our_answer_changes_nothing(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 9.2: it is answered, and the call stays."""
    caller = Script("caller").calls(sdp(RTP)).ask("CANCEL").told(200).pause(300).leaves()
    await play(carriers, tmp_path, caller, Script("callee").called(sdp(RTP)).left())
    await history(carriers.gateway)


async def test_a_bye_in_the_early_dialog_ends_it(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 15.1.2: the caller may leave before the answer; its INVITE gets 487."""
    caller = Script("caller").ask("INVITE", sdp(RTP)).told(100, optional=True).told(180).ask("BYE")
    callee = Script("callee").invited().answer("180 Ringing").asked("CANCEL").answer("200 OK")
    callee.answer("487 Request Terminated", to="call").asked("ACK")
    await play(carriers, tmp_path, caller.told(200).told(487).ask("ACK"), callee)
    assert (await newest(carriers))["status"] == "canceled"


async def test_both_hang_up_at_once(carriers: Carriers, tmp_path: Path) -> None:
    """The callee's BYE leaves before it has answered ours: both are answered 200."""
    callee = Script("callee").called(sdp(RTP)).asked("BYE", keep="bye").ask("BYE").told(200)
    await play(
        carriers, tmp_path, Script("caller").calls(sdp(RTP)).leaves(), callee.answer("200 OK", to="bye")
    )
    assert (await newest(carriers))["hangup_source"] == "caller"


async def test_offers_that_cross_are_made_again(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 14.1, 14.2: 491 to the callee whose offer meets ours; its second one is carried."""
    hold, held = sdp(RTP, direction="sendonly"), sdp(RTP, direction="recvonly")
    caller = Script("caller").calls(sdp(RTP)).ask("INVITE", hold).told(100, optional=True)
    caller.told(200, has=["a=recvonly"]).ask("ACK").renewed(
        sdp(RTP, direction="inactive"), has=["a=inactive"]
    )
    callee = Script("callee").called(sdp(RTP)).asked("INVITE", has=["a=sendonly"], keep="hold")
    callee.ask("INVITE", sdp(RTP, direction="inactive")).told(100, optional=True).told(491).ask("ACK")
    callee.answer("200 OK", held, to="hold").asked("ACK").pause(200)
    callee.renews(sdp(RTP, direction="inactive"), has=["a=inactive"]).left()
    await play(carriers, tmp_path, caller.pause(100).leaves(), callee)
    await history(carriers.gateway)


@pytest.mark.parametrize("side", ["caller", "callee"])
async def test_a_loose_router_is_passed_through(carriers: Carriers, tmp_path: Path, side: str) -> None:
    """RFC 3261 12.2.1.1: the target stays in the Request-URI, the proxies are in Route, the nearest first."""
    near = "sip:near@[local_ip]:[local_port];lr"
    recorded = f"Record-Route: <{near}>, <sip:192.0.2.7;lr;transport=tcp>\n"
    routed = [f"Route: <sip:near@{HERE};lr>[^<]*<sip:192.0.2.7;lr;transport=tcp>"]
    if side == "callee":
        recorded = f"Record-Route: <sip:192.0.2.7;lr;transport=tcp>, <{near}>\n"
    await routed_call(carriers, tmp_path, side, recorded, [f"sip:peer@{HERE} ", *routed])


@pytest.mark.parametrize("side", ["caller", "callee"])
async def test_a_strict_router_is_put_into_the_request_uri(
    carriers: Carriers, tmp_path: Path, side: str
) -> None:
    """RFC 3261 12.2.1.1: a first route without lr; the target goes to the end of Route."""
    recorded = "Record-Route: <sip:strict@[local_ip]:[local_port]>\n"
    has = [f"^BYE sip:strict@{HERE} ", f"Route: <sip:peer@{HERE}>"]
    await routed_call(carriers, tmp_path, side, recorded, has)


async def routed_call(carriers: Carriers, tmp_path: Path, side: str, recorded: str, has: list[str]) -> None:
    """A call whose `side` is behind proxies; the other one hangs up."""
    caller, callee = Script("caller"), Script("callee")
    if side == "callee":
        caller.calls(sdp(RTP)).pause(200).leaves()
        callee.invited().answer("200 OK", sdp(RTP), headers=recorded)
        callee.asked("ACK", has=[pattern.replace("^BYE", "^ACK") for pattern in has])
        callee.asked("BYE", has=has).answer("200 OK")
    else:
        caller.ask("INVITE", sdp(RTP), headers=recorded).told(100, optional=True).told(180, optional=True)
        caller.told(200, has=["Record-Route: "]).ask("ACK").asked("BYE", has=has).answer("200 OK")
        callee.called(sdp(RTP)).pause(200).leaves()
    await play(carriers, tmp_path, caller, callee)
    await history(carriers.gateway)


@pytest.mark.parametrize("method", ["INVITE", "UPDATE"])
async def test_a_peer_that_moves_is_found_again(carriers: Carriers, tmp_path: Path, method: str) -> None:
    """RFC 3261 12.2.2, RFC 3311 5.2: the Contact of a target refresh request is the new remote target."""
    caller, callee = Script("caller").calls(sdp(RTP)), Script("callee").called(sdp(RTP))
    caller.at("sip:moved@[local_ip]:[local_port]").ask(method, sdp(RTP)).told(100, optional=True).told(200)
    if method == "INVITE":
        caller.ask("ACK")
    caller.asked("BYE", has=[f"^BYE sip:moved@{HERE} "]).answer("200 OK")
    await play(carriers, tmp_path, caller, callee.pause(500).leaves())
    await history(carriers.gateway)


async def test_an_answer_to_our_offer_moves_the_target_too(carriers: Carriers, tmp_path: Path) -> None:
    """RFC 3261 12.2.1.2: so does the Contact of the 2xx to a re-INVITE of ours."""
    caller = Script("caller").calls(sdp(RTP)).pause(100)
    caller.renews(sdp(RTP, direction="sendonly"), has=["a=recvonly"]).leaves()
    callee = Script("callee").called(sdp(RTP)).at("sip:moved@[local_ip]:[local_port]")
    callee.asked("INVITE", has=[f"^INVITE sip:peer@{HERE} "])
    callee.answer("200 OK", sdp(RTP, direction="recvonly")).asked("ACK", has=[f"^ACK sip:moved@{HERE} "])
    callee.asked("BYE", has=[f"^BYE sip:moved@{HERE} "]).answer("200 OK")
    await play(carriers, tmp_path, caller, callee)
    await history(carriers.gateway)
