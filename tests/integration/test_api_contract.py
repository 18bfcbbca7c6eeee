"""The gateway keeps what its OpenAPI document promises, whatever a client makes of it."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

from tests.unit.api.world import World, world

# A schema cannot say everything: a number needs a trunk, a cursor must be ours (422 with its path). And 405
# for methods that are not told is proven in tests/unit/api/test_errors.py.
EXCLUDED = [positive_data_acceptance, unsupported_method]


@pytest.fixture(scope="module")
def served() -> Iterator[World]:
    """A gateway in a loop and thread of its own: schemathesis calls it like any client."""
    ready = threading.Event()
    found: list[World] = []
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with world() as running:
            found.append(running)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    assert not thread.is_alive()
    loop.close()


@pytest.fixture(scope="module")
def document(served: World) -> Any:
    """The document as a client gets it, pointed at the running gateway."""
    loaded = schemathesis.openapi.from_url(f"{served.url}/api/v1/openapi.json")
    loaded.config.update(base_url=served.url)
    # One socket is no request with an answer: tests/unit/api/test_websocket.py talks to it.
    return loaded.exclude(path="/ws")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["good", "bad"])
def test_every_operation_answers_as_documented(document: Any, mode: GenerationMode) -> None:
    told = [result.ok() for result in document.get_all_operations()]
    assert len(told) >= 12
    for operation in told:
        ask(operation, mode)


def ask(operation: Any, mode: GenerationMode) -> None:
    """Send what the document allows, or what it forbids; every answer must be one that it names."""

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=EXCLUDED)

    with contextlib.suppress(Unsatisfiable):  # nothing is forbidden to an operation without parameters
        check()
