"""`/ws`: the way of a call in frames, and everything a client can say wrongly."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from telephony_gateway.api import websocket
from telephony_gateway.calls.events import Digit, Ended
from tests.unit.api.world import ANSWER, KEY, OFFER, UNKNOWN, World, world

NEW = {"to": "sip:bob@127.0.0.1:5070"}


async def test_a_call_comes_in_is_answered_and_ends(gateway: World) -> None:
    async with gateway.socket() as browser:
        await browser.alive()
        gateway.invite()
        call = (await browser.next("incoming-call"))["call"]
        assert (call["status"], call["direction"], call["from"]) == ("ringing", "inbound", "+74951234567")
        joined = await browser.ask("joined-call", type="join-call", call_id=call["id"])
        assert (joined["call_id"], joined["ice_servers"], joined["call"]["id"]) == (
            call["id"],
            [],
            call["id"],
        )
        answer = await browser.ask("answer", type="offer", call_id=call["id"], sdp=OFFER)
        assert (answer["call_id"], answer["sdp"]) == (call["id"], ANSWER)
        state = await browser.next("call-state")
        while state["call"]["status"] != "in-progress":
            state = await browser.next("call-state")
        assert {"ring", "answer", "bridge", "accept_offer"} <= set(gateway.engine.names())
        await gateway.json("POST", f"/api/v1/calls/{call['id']}/end", 200)
        ended = (await browser.next("call-ended"))["call"]
        assert (ended["id"], ended["status"]) == (call["id"], "completed")


async def test_candidates_and_digits_reach_the_engine(gateway: World) -> None:
    async with gateway.socket() as browser:
        await browser.alive()
        gateway.invite()
        call_id = (await browser.next("incoming-call"))["call"]["id"]
        await browser.ask("joined-call", type="join-call", call_id=call_id)
        await browser.ask("answer", type="offer", call_id=call_id, sdp=OFFER)
        line = "candidate:1 1 UDP 2130706431 127.0.0.1 9 typ host"
        for candidate in (
            {"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0, "usernameFragment": "x"},
            {"candidate": "", "sdpMid": None, "sdpMLineIndex": None},
            None,
        ):
            await browser.send(type="ice-candidate", call_id=call_id, candidate=candidate)
        await browser.send(type="dtmf", call_id=call_id, digits="42#")
        await browser.alive()
        told = [command[2] for command in gateway.engine.commands if command[0] == "add_candidate"]
        assert told == [line, None, None]
        assert ("send_digits", 900, "42#") in gateway.engine.commands
        gateway.manager.handle(Digit(leg=900, digit="7", duration=0.1))
        await browser.alive()


async def test_a_browser_may_join_before_the_callee_answers(gateway: World) -> None:
    call = await gateway.json("POST", "/api/v1/calls", 201, json=NEW)
    async with gateway.socket() as browser:
        await browser.ask("joined-call", type="join-call", call_id=call["id"])
        await browser.ask("answer", type="offer", call_id=call["id"], sdp=OFFER)
        gateway.ringing(1)
        assert (await browser.next("call-state", timeout=2))["call"]["status"] in {"queued", "ringing"}
        gateway.manager.handle(Ended(leg=1, by="remote", cause="rejected", status=486, reason="Busy Here"))
        ended = (await browser.next("call-ended"))["call"]
        assert (ended["status"], ended["sip_response_code"]) == ("busy", 486)


async def test_the_gateway_offers_where_it_is_asked(gateway: World) -> None:
    call = await gateway.json("POST", "/api/v1/calls", 201, json=NEW)
    async with gateway.socket() as browser:
        await browser.ask("joined-call", type="join-call", call_id=call["id"], offer=True)
        assert (await browser.next("offer"))["sdp"] == OFFER
        await browser.send(type="answer", call_id=call["id"], sdp=ANSWER)
        await browser.alive()
        assert "accept_answer" in gateway.engine.names()


async def test_leaving_is_confirmed_where_it_is_asked_for(gateway: World) -> None:
    call = await gateway.json("POST", "/api/v1/calls", 201, json=NEW)
    async with gateway.socket() as browser:
        await browser.ask("joined-call", type="join-call", call_id=call["id"])
        left = await browser.ask("left-call", type="leave-call", call_id=call["id"])
        assert left["call_id"] == call["id"]
        again = await browser.ask("error", type="leave-call", call_id=call["id"])
        assert again["code"] == "wrong_state"


async def test_the_second_browser_is_told_it_came_too_late(gateway: World) -> None:
    async with gateway.socket() as first, gateway.socket() as second:
        await first.alive()
        await second.alive()
        gateway.invite()
        call_id = (await first.next("incoming-call"))["call"]["id"]
        await second.next("incoming-call")
        await first.ask("joined-call", type="join-call", call_id=call_id)
        late = await second.ask("error", type="join-call", call_id=call_id)
        assert late["code"] == "wrong_state"
        await second.alive()


async def test_a_browser_that_connects_later_hears_of_what_rings(gateway: World) -> None:
    async with gateway.socket() as first:
        await first.alive()
        gateway.invite()
        call_id = (await first.next("incoming-call"))["call"]["id"]
        async with gateway.socket() as second:
            assert (await second.next("incoming-call"))["call"]["id"] == call_id


async def test_a_closed_socket_leaves_its_calls(gateway: World) -> None:
    async with gateway.socket() as browser:
        await browser.alive()
        gateway.invite()
        call_id = (await browser.next("incoming-call"))["call"]["id"]
        await browser.ask("joined-call", type="join-call", call_id=call_id)
        await browser.ask("answer", type="offer", call_id=call_id, sdp=OFFER)
    for _ in range(100):
        call = await gateway.json("GET", f"/api/v1/calls/{call_id}", 200)
        if call["status"] == "completed":
            break
        await asyncio.sleep(0.01)
    assert call["status"] == "completed"


async def test_an_unusable_offer_may_be_followed_by_a_better_one(gateway: World) -> None:
    async with gateway.socket() as browser:
        await browser.alive()
        gateway.invite()
        call_id = (await browser.next("incoming-call"))["call"]["id"]
        await browser.ask("joined-call", type="join-call", call_id=call_id)
        refused = await browser.ask("error", type="offer", call_id=call_id, sdp="v=0")
        assert refused["code"] == "not_acceptable"
        await browser.ask("answer", type="offer", call_id=call_id, sdp=OFFER)


WRONG = [
    ("{", "invalid"),
    ("", "invalid"),
    ("[]", "invalid"),
    ('"text"', "invalid"),
    ("{}", "invalid"),
    ("[" * 5000, "invalid"),
    ('{"a":' * 5000, "invalid"),
    ('{"type":7}', "invalid"),
    ('{"type":null}', "invalid"),
    ('{"type":"sing"}', "unknown_type"),
    ('{"type":"joined-call"}', "unknown_type"),
    ('{"type":"join-call"}', "invalid"),
    ('{"type":"join-call","call_id":"x"}', "invalid"),
    ('{"type":"join-call","call_id":7}', "invalid"),
    (f'{{"type":"join-call","call_id":"{UNKNOWN}","token":7}}', "invalid"),
    (f'{{"type":"join-call","call_id":"{UNKNOWN}"}}', "call_not_found"),
    (f'{{"type":"leave-call","call_id":"{UNKNOWN}"}}', "call_not_found"),
    (f'{{"type":"offer","call_id":"{UNKNOWN}","sdp":"v=0"}}', "call_not_found"),
    (f'{{"type":"answer","call_id":"{UNKNOWN}","sdp":"v=0"}}', "call_not_found"),
    (f'{{"type":"ice-candidate","call_id":"{UNKNOWN}","candidate":null}}', "call_not_found"),
    (f'{{"type":"ice-candidate","call_id":"{UNKNOWN}"}}', "invalid"),
    (f'{{"type":"ice-candidate","call_id":"{UNKNOWN}","candidate":"a=b"}}', "invalid"),
    (f'{{"type":"dtmf","call_id":"{UNKNOWN}","digits":"1"}}', "call_not_found"),
    (f'{{"type":"dtmf","call_id":"{UNKNOWN}","digits":"1\\n"}}', "invalid"),
    (f'{{"type":"dtmf","call_id":"{UNKNOWN}","digits":"boo"}}', "invalid"),
    (f'{{"type":"offer","call_id":"{UNKNOWN}","sdp":""}}', "invalid"),
    ('{"type":"register","browser":"sales\\n"}', "invalid"),
    ('{"type":"register","browser":"*"}', "invalid"),
    ('{"type":"authenticate"}', "invalid"),
]


@pytest.mark.parametrize(("frame", "code"), WRONG, ids=[frame[:40] for frame, _ in WRONG])
async def test_a_wrong_frame_gets_an_error_and_the_socket_stays(
    gateway: World, frame: str, code: str
) -> None:
    async with gateway.socket() as browser:
        await browser.socket.send_str(frame)
        error = await browser.next("error")
        assert (error["code"], bool(error["message"])) == (code, True)
        assert "request_id" not in error
        await browser.alive()


@pytest.mark.parametrize("request_id", ["7", 7, "я" * 128, -1, 0])
async def test_an_error_finds_its_way_back(gateway: World, request_id: Any) -> None:
    async with gateway.socket() as browser:
        for frame in (
            {"type": "sing", "request_id": request_id},
            {"type": "dtmf", "request_id": request_id},
            {"type": "join-call", "call_id": UNKNOWN, "request_id": request_id},
        ):
            await browser.send(**frame)
            assert (await browser.next("error"))["request_id"] == request_id


async def test_an_invalid_frame_names_the_field(gateway: World) -> None:
    async with gateway.socket() as browser:
        await browser.send(type="join-call", call_id="x")
        error = await browser.next("error")
        assert [problem["path"] for problem in error["errors"]] == ["call_id"]


async def test_binary_frames_are_an_error(gateway: World) -> None:
    async with gateway.socket() as browser:
        await browser.socket.send_bytes(b'{"type":"register","browser":"x"}')
        assert (await browser.next("error"))["code"] == "binary_frame"
        await browser.alive()


async def test_a_frame_over_the_limit_closes_with_1009(gateway: World) -> None:
    async with gateway.socket() as browser:
        await browser.socket.send_str(json.dumps({"type": "offer", "sdp": "x" * websocket.MAX_FRAME}))
        assert await browser.closed() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_a_large_offer_within_the_limit_passes(gateway: World) -> None:
    call = await gateway.json("POST", "/api/v1/calls", 201, json=NEW)
    async with gateway.socket() as browser:
        await browser.ask("joined-call", type="join-call", call_id=call["id"])
        sdp = OFFER + "a=candidate:x\r\n" * 4000
        await browser.ask("answer", type="offer", call_id=call["id"], sdp=sdp)


async def test_a_flood_is_slowed_and_then_shut_out(gateway: World) -> None:
    async with gateway.socket() as browser:
        for _ in range(200):
            await browser.send(type="sing")
        slowed = await browser.next("error", code="rate_limited")
        assert slowed["retry_after"] > 0
        for _ in range(800):
            await browser.send(type="sing")
        assert await browser.closed() == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_our_own_fault_is_told_and_the_socket_stays(gateway: World) -> None:
    call = await gateway.json("POST", "/api/v1/calls", 201, json=NEW)
    async with gateway.socket() as browser:
        await browser.ask("joined-call", type="join-call", call_id=call["id"])
        gateway.engine.fault = RuntimeError("the secret inside")
        error = await browser.ask("error", type="offer", call_id=call["id"], sdp=OFFER)
        assert "secret" not in str(error)
        await browser.alive()


async def test_a_frame_that_takes_too_long(gateway: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "FRAME_TIMEOUT", 0.05)
    gateway.engine.delay = 5
    call = await gateway.json("POST", "/api/v1/calls", 201, json=NEW)
    async with gateway.socket() as browser:
        await browser.ask("joined-call", type="join-call", call_id=call["id"])
        error = await browser.ask("error", type="offer", call_id=call["id"], sdp=OFFER)
        assert error["code"] == "timeout"
        await browser.alive()


async def test_without_an_upgrade_it_is_426(gateway: World) -> None:
    problem = await gateway.json("GET", "/ws", 426)
    assert problem["code"] == "upgrade_required"
    await gateway.json("POST", "/ws", 405)


async def test_a_stranger_sees_nothing_until_it_authenticates(guarded: World) -> None:
    async with guarded.socket() as stranger:
        assert (await stranger.ask("error", type="register", browser="sales"))["code"] == "unauthorized"
        wrong = await stranger.ask("error", type="authenticate", api_key="wrong")
        assert wrong["code"] == "unauthorized"
        guarded.invite()
        await asyncio.sleep(0.05)
        assert ("reject", 900, 480) in guarded.engine.commands, "a stranger does not ring"
        await stranger.ask("authenticated", type="authenticate", api_key=KEY)
        await stranger.alive()
        guarded.invite(leg=901, sip_call_id="def")
        await stranger.next("incoming-call")


async def test_a_stranger_cannot_join_but_a_ticket_can(guarded: World) -> None:
    headers = {"X-API-Key": KEY}
    call = await guarded.json("POST", "/api/v1/calls", 201, json=NEW, headers=headers)
    other = await guarded.json("POST", "/api/v1/calls", 201, json=NEW, headers=headers)
    path = f"/api/v1/calls/{call['id']}/sessions"
    ticket = await guarded.json("POST", path, 201, headers=headers)
    async with guarded.socket() as guest:
        refused = await guest.ask("error", type="join-call", call_id=call["id"])
        assert refused["code"] == "unauthorized"
        for call_id, token in ((other["id"], ticket["token"]), (call["id"], "x" * 43)):
            refused = await guest.ask("error", type="join-call", call_id=call_id, token=token)
            assert refused["code"] == "session_not_found"
        await guest.ask("joined-call", type="join-call", call_id=call["id"], token=ticket["token"])


async def test_a_key_in_the_upgrade_authenticates(guarded: World) -> None:
    async with guarded.socket(headers={"Authorization": f"Bearer {KEY}"}) as browser:
        await browser.alive()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with guarded.socket(headers={"X-API-Key": "wrong"}):
            pass
    assert refused.value.status == 401


async def test_a_silent_stranger_is_sent_away(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "INTRODUCTION_TIMEOUT", 0.1)
    async with guarded.socket() as stranger:
        assert await stranger.closed() == aiohttp.WSCloseCode.POLICY_VIOLATION
    async with guarded.socket() as known:
        await known.ask("authenticated", type="authenticate", api_key=KEY)
        await asyncio.sleep(0.2)
        await known.alive()


async def test_guessing_keys_ends_the_socket(guarded: World) -> None:
    async with guarded.socket() as stranger:
        for _ in range(websocket.MAX_WRONG_KEYS - 1):
            await stranger.ask("error", type="authenticate", api_key="guess")
        await stranger.send(type="authenticate", api_key="guess")
        assert await stranger.closed() == aiohttp.WSCloseCode.POLICY_VIOLATION


async def test_names_are_bounded(gateway: World) -> None:
    async with gateway.socket() as browser:
        for number in range(websocket.MAX_NAMES):
            await browser.ask("registered", type="register", browser=f"name{number}")
        await browser.ask("registered", type="register", browser="name0")
        refused = await browser.ask("error", type="register", browser="another")
        assert refused["code"] == "wrong_state"


async def test_an_upgrade_is_counted_when_it_happens(gateway: World) -> None:
    async with gateway.socket() as browser:
        await browser.alive()
        assert gateway.counts.requests == [("GET", "/ws", 101)]
    await asyncio.sleep(0.05)
    assert gateway.counts.requests == [("GET", "/ws", 101)]


async def test_sockets_are_bounded(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "MAX_STRANGERS", 1)
    monkeypatch.setattr(websocket, "MAX_SOCKETS", 3)
    with_key = {"headers": {"X-API-Key": KEY}}

    async def refusal(**how: Any) -> int:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with guarded.socket(**how):
                pass
        return refused.value.status

    async with guarded.socket():
        assert await refusal() == 429
        async with guarded.socket(**with_key), guarded.socket(**with_key):
            assert await refusal(**with_key) == 503


async def test_shutdown_says_going_away(no_leak: None) -> None:
    async with world() as gateway:
        async with gateway.socket() as first, gateway.socket() as second:
            await first.alive()
            await second.alive()
            closing = asyncio.create_task(gateway.runner.cleanup())
            assert await first.closed() == aiohttp.WSCloseCode.GOING_AWAY
            assert await second.closed() == aiohttp.WSCloseCode.GOING_AWAY
            async with asyncio.timeout(5):
                await closing


async def test_no_frame_is_compressed(gateway: World) -> None:
    async with gateway.socket(compress=15) as browser:
        assert not browser.socket.compress
        await browser.alive()
