"""No frame, however strange, closes the socket, kills the gateway or goes unanswered when it is wrong."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telephony_gateway.api import frames
from telephony_gateway.api.socket import FrameBudget
from telephony_gateway.errors import GatewayError
from tests.unit.api.world import UNKNOWN, world

KINDS = sorted(kind.__struct_config__.tag for kind in frames.AnyClientFrame.__args__)
WORDS = ["call_id", "sdp", "candidate", "digits", "token", "browser", "api_key", "request_id", "offer"]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
near = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(KINDS) | st.text(max_size=12),
    st.dictionaries(st.sampled_from(WORDS), values, max_size=5),
)
texts = st.text(max_size=200) | values.map(json.dumps) | near.map(json.dumps)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts)
def test_decode_gives_a_frame_or_says_why_not(text: str) -> None:
    try:
        frame = frames.decode(text)
    except GatewayError as error:
        reply: Any = json.loads(frames.encode(frames.error_reply(error, frames.request_id_of(text))))
        assert reply["type"] == "error"
        assert reply["code"] in {"invalid", "unknown_type"}
        assert reply["message"]
    else:
        assert isinstance(frame, frames.AnyClientFrame)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(texts, min_size=1, max_size=40))
async def test_a_conversation_of_nonsense_leaves_the_socket_open(sayings: list[str]) -> None:
    async with world() as gateway, gateway.socket() as browser:
        for text in sayings:
            await browser.socket.send_str(text)
        await browser.alive()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(min_value=0, max_value=0.5), max_size=300))
def test_a_budget_never_gives_more_than_its_rate(gaps: list[float]) -> None:
    budget = FrameBudget(rate=10, burst=20)
    now = began = budget._at
    passed = 0
    for gap in gaps:
        now += gap
        passed += budget.spend(now)
        assert budget.wait <= 0.1 + 1e-9
    assert passed <= 20 + (now - began) * 10 + 1e-6
