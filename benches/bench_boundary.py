"""One crossing into Python: an empty poll, a counter snapshot, a command with its answer."""

import select
from collections.abc import Iterator
from typing import Any

import pytest

from tests.core.node import Node


@pytest.fixture
def node() -> Iterator[Node]:
    """A running engine."""
    running = Node()
    yield running
    running.engine.stop(1.0)


def test_poll_without_events(node: Node, benchmark: Any) -> None:
    """What a wake-up costs at least."""
    assert benchmark(node.engine.poll_events) == []


def test_stats(node: Node, benchmark: Any) -> None:
    """One snapshot of the counters, as a scrape takes it."""
    assert benchmark(node.engine.stats).legs == 0


def test_command_and_its_answer(node: Node, benchmark: Any) -> None:
    """Python to a media worker and back through the event queue: two threads and one eventfd."""

    def there_and_back() -> Any:
        correlation = node.engine.unbridge(leg)
        while True:
            select.select([node.engine.fileno()], [], [], 1.0)
            for event in node.engine.poll_events():
                if getattr(event, "correlation", None) == correlation:
                    return event

    leg = node.engine.new_webrtc_leg()
    assert benchmark(there_and_back) is not None
