"""The boundary: what the extension takes, refuses, tells and gives back."""

import socket
import time
from collections.abc import Callable
from typing import Any, Literal

import pytest

from telephony_gateway import _core
from tests.core.node import Node

Start = Callable[..., Node]


def test_it_starts_and_stops(start: Start) -> None:
    engine = start(media_workers=2).engine
    host, port = engine.sip_address
    assert (host, port > 0) == ("127.0.0.1", True)
    assert len(engine.webrtc_addresses) == 2
    assert engine.poll_events() == []
    stats = engine.stats()
    assert (stats.event_queue_capacity, stats.event_queue_depth, stats.legs) == (8192, 0, 0)
    engine.stop()
    engine.stop()
    with pytest.raises(_core.EngineError) as caught:
        engine.hangup(engine.new_sip_leg())
    assert caught.value.code == "stopped"


def test_a_taken_port_names_the_setting_and_the_fix(start: Start) -> None:
    host, port = start().engine.sip_address
    with pytest.raises(_core.EngineError) as caught:
        start(sip_port=port)
    assert (caught.value.code, caught.value.setting) == ("address_in_use", "SIP_PORT")
    assert f"{host}:{port}" in str(caught.value)
    assert "SIP_PORT" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "code", "setting"),
    [
        ({"sip_host": "203.0.113.1"}, "address_unavailable", "SIP_HOST"),
        ({"sip_host": "no such host"}, "invalid", "SIP_HOST"),
        ({"rtp_port_range": (30000, 20000)}, "invalid", "RTP_PORT_RANGE"),
        ({"media_workers": 0}, "invalid", "MEDIA_WORKERS"),
        ({"sip_public_address": "0.0.0.0"}, "invalid", "SIP_PUBLIC_ADDRESS"),
        ({"media_timeout": -1.0}, "invalid", None),
        ({"media_timeout": float("nan")}, "invalid", None),
        ({"user_agent": "a\r\nb"}, "invalid", None),
        ({"event_capacity": 1}, "invalid", None),
    ],
)
def test_settings_that_do_not_work(
    start: Start, settings: dict[str, Any], code: str, setting: str | None
) -> None:
    with pytest.raises(_core.EngineError) as caught:
        start(**settings)
    assert (caught.value.code, caught.value.setting) == (code, setting)


@pytest.mark.parametrize(
    "settings",
    [{"sip_port": "x"}, {"sip_port": 70000}, {"sip_port": -1}, {"rtp_port_range": (1, 2, 3)}, {"unknown": 1}],
)
def test_settings_of_the_wrong_type(start: Start, settings: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        start(**settings)


def test_arguments_that_do_not_work(start: Start) -> None:
    engine = start().engine
    leg, browser = engine.new_sip_leg(), engine.new_webrtc_leg()
    good: dict[str, Any] = {"uri": "sip:a@127.0.0.1", "from_uri": "sip:b@127.0.0.1", "codecs": ["PCMU"]}
    for command, code in [
        (lambda: engine.dial(leg, **{**good, "uri": "rubbish"}), "invalid"),
        (lambda: engine.dial(leg, **{**good, "from_uri": "sip:a@b\r\nX: y"}), "invalid"),
        (lambda: engine.dial(leg, **{**good, "codecs": []}), "invalid"),
        (lambda: engine.dial(leg, **{**good, "codecs": ["MP3"]}), "invalid"),
        (lambda: engine.dial(leg, **good, timeout=-1), "invalid"),
        (lambda: engine.dial(leg, **good, next_hop="tel:+1"), "invalid"),
        (lambda: engine.dial(browser, **good), "wrong_state"),
        (lambda: engine.accept_offer(leg, "", ["PCMU"]), "wrong_state"),
        (lambda: engine.bridge(leg, leg), "invalid"),
        (lambda: engine.reject(leg, 200), "invalid"),
        (lambda: engine.answer(2**63 + 5), "unknown_leg"),
        (lambda: engine.new_sip_leg(beside=99), "unknown_leg"),
    ]:
        with pytest.raises(_core.EngineError) as caught:
            command()
        assert (caught.value.code, caught.value.setting) == (code, None)
    with pytest.raises(TypeError):
        engine.answer("1")  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        engine.answer(-1)
    assert engine.leg_stats(leg) is None


def test_refused_commands_answer_with_an_error(start: Start) -> None:
    node = start()
    leg, browser = node.engine.new_sip_leg(), node.engine.new_webrtc_leg()
    for correlation, code in [
        (node.engine.accept_offer(browser, "rubbish", ["PCMU"]), "bad_sdp"),
        (node.engine.accept_answer(browser, "rubbish"), "unknown_leg"),
        (node.engine.send_digits(leg, "1"), "unknown_leg"),
    ]:
        done = node.run(correlation)
        assert isinstance(done.error, _core.EngineError)
        assert done.error.code == code
        assert (done.sdp, done.codec) == (None, None)
    node.carried_out(node.engine.hangup(leg))


def test_events_are_frozen_and_show_themselves(start: Start) -> None:
    node = start()
    done = node.run(node.engine.unbridge(node.engine.new_webrtc_leg()))
    assert repr(done).startswith("Done(correlation=")
    with pytest.raises(AttributeError):
        done.leg = 5
    with pytest.raises(TypeError):
        type(done)()


def test_garbage_is_counted(start: Start) -> None:
    node = start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for payload in (b"\0" * 40, b"INVITE\r\n\r\n", b"x" * 60000):
            peer.sendto(payload, node.engine.sip_address)
    until = time.monotonic() + 5
    while sum(node.engine.stats().drops.values()) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert node.engine.stats().drops["sip.malformed"] >= 1


def test_the_aliases_of_the_stub_are_there() -> None:
    assert _core.LegId is int
    assert _core.Codec == Literal["PCMU"] | Literal["PCMA"] | Literal["opus"]
    assert _core.Done in _core.Event.__args__  # type: ignore[attr-defined]
