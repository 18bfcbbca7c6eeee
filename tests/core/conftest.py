"""Engines that are stopped after each test, and leave nothing."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.core.node import Node, held


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """After the test the process holds what it held before."""
    before = held()
    yield
    until = time.monotonic() + 2
    while held() != before and time.monotonic() < until:
        time.sleep(0.01)
    assert held() == before


@pytest.fixture
def start(nothing_left: None) -> Iterator[Callable[..., Node]]:
    """Starts engines, and stops them after the test."""
    nodes: list[Node] = []

    def start(**settings: Any) -> Node:
        nodes.append(Node(**settings))
        return nodes[-1]

    yield start
    for node in nodes:
        node.engine.stop(1.0)
    nodes.clear()
