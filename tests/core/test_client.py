"""The asyncio face of the engine."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from telephony_gateway.calls import events
from telephony_gateway.engine import EngineClient
from telephony_gateway.errors import ConfigError, EngineFailure, Invalid, NotAcceptable, WrongState
from tests.core.node import PATIENCE, held

Start = Callable[..., Awaitable["Listener"]]


class Listener:
    """A client and what it told."""

    def __init__(self, **settings: Any) -> None:
        defaults = {
            "sip_host": "127.0.0.1",
            "sip_port": 0,
            "webrtc_port": 0,
            "rtp_port_range": (45000, 45999),
        }
        self.client = EngineClient(**{**defaults, **settings})
        self.told: asyncio.Queue[events.Event] = asyncio.Queue()

    async def next(self, kind: type[Any]) -> Any:
        async with asyncio.timeout(PATIENCE):
            while not isinstance(event := await self.told.get(), kind):
                pass
        return event

    @property
    def uri(self) -> str:
        host, port = self.client.sip_address
        return f"sip:bob@{host}:{port}"


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    await asyncio.to_thread(gc.collect)  # the executor's first thread stays, and is not ours
    before = held()
    listeners: list[Listener] = []

    async def start(**settings: Any) -> Listener:
        listener = Listener(**settings)
        await listener.client.start(listener.told.put_nowait)
        listeners.append(listener)
        return listener

    yield start
    for listener in listeners:
        await listener.client.stop(1.0)
    listeners.clear()
    assert held()[0] == before[0]


async def test_a_call_in_the_words_of_the_call_control(start: Start) -> None:
    caller, callee = await start(), await start()
    out = caller.client.new_sip_leg()
    caller.client.dial(out, uri=callee.uri, from_uri="sip:alice@example.com", codecs=("opus", "PCMU"))
    incoming: events.Incoming = await callee.next(events.Incoming)
    assert list(incoming.codecs) == ["opus", "PCMU"]
    assert incoming.message.header("CSeq") == "1 INVITE"
    assert await callee.client.ring(incoming.leg, codecs=["PCMU"]) == "PCMU"
    assert (await caller.next(events.Ringing)).status == 180
    await callee.client.answer(incoming.leg)
    assert (await caller.next(events.Answered)).codec == "PCMU"
    await callee.next(events.Confirmed)
    stats = callee.client.leg_stats(incoming.leg)
    assert stats is not None
    assert stats.codec == "PCMU"
    caller.client.hangup(out, "done")
    ended: events.Ended = await callee.next(events.Ended)
    assert (ended.leg, ended.by, ended.cause, ended.reason) == (incoming.leg, "remote", "bye", "done")
    assert ended.stats is not None


async def test_errors_speak_the_language_of_the_gateway(start: Start) -> None:
    listener = await start()
    client = listener.client
    leg, browser = client.new_sip_leg(), client.new_webrtc_leg()
    with pytest.raises(Invalid):
        client.dial(leg, uri="rubbish", from_uri="sip:a@b", codecs=["PCMU"])
    with pytest.raises(Invalid):
        await client.create_offer(browser, ["MP3"])
    with pytest.raises(WrongState):
        await client.create_offer(leg, ["PCMU"])
    with pytest.raises(NotAcceptable):
        await client.accept_offer(browser, "rubbish", ["PCMU"])
    with pytest.raises(EngineFailure) as caught:
        await client.answer(leg)
    assert caught.value.reason == "unknown_leg"
    with pytest.raises(ConfigError) as taken:
        await start(sip_port=client.sip_address[1])
    assert taken.value.setting == "SIP_PORT"
    client.add_candidate(browser, None)
    client.unbridge(leg)
    client.send_digits(leg, "12")
    client.refuse_new(True)


async def test_a_browser_is_offered_and_let_go(start: Start) -> None:
    listener = await start()
    leg = listener.client.new_webrtc_leg()
    offer = await listener.client.create_offer(leg, ["opus", "PCMU"])
    assert "a=fingerprint:sha-256" in offer
    listener.client.hangup(leg)
    ended: events.Ended = await listener.next(events.Ended)
    assert (ended.leg, ended.by, ended.cause) == (leg, "local", "bye")


async def test_a_handler_that_fails_does_not_stop_the_others(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    caller, callee = await start(), await start()
    told: list[events.Event] = []

    def fail(event: events.Event) -> None:
        told.append(event)
        raise RuntimeError("handler")

    callee.client._on_event = fail
    for _ in range(2):
        leg = caller.client.new_sip_leg()
        caller.client.dial(leg, uri=callee.uri, from_uri="sip:a@example.com", codecs=["PCMU"])
    async with asyncio.timeout(PATIENCE):
        while len(told) < 2:
            await asyncio.sleep(0.01)


async def test_stop_delivers_the_last_events_and_then_refuses(start: Start) -> None:
    caller, callee = await start(), await start()
    leg = caller.client.new_sip_leg()
    caller.client.dial(leg, uri=callee.uri, from_uri="sip:a@example.com", codecs=["PCMU"])
    await callee.next(events.Incoming)
    await caller.client.stop(5.0)
    await caller.client.stop(5.0)
    assert (await caller.next(events.Ended)).leg == leg
    with pytest.raises(EngineFailure) as caught:
        caller.client.hangup(leg)
    assert caught.value.reason == "stopped"
