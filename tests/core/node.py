"""Engines over real sockets on loopback, and what counts what they hold."""

import gc
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from telephony_gateway import _core

PATIENCE = 10.0
Kind = TypeVar("Kind")


class Node:
    """An engine and the events that were read and not yet looked for."""

    def __init__(self, **settings: Any) -> None:
        defaults = {
            "sip_host": "127.0.0.1",
            "sip_port": 0,
            "webrtc_port": 0,
            "rtp_port_range": (44000, 44999),
        }
        self.engine = _core.Engine(**{**defaults, **settings})
        self.seen: list[_core.Event] = []

    @property
    def uri(self) -> str:
        host, port = self.engine.sip_address
        return f"sip:bob@{host}:{port}"

    def wait(self, kind: type[Kind], when: Callable[[Any], bool] = lambda event: True) -> Kind:
        """The first event of a kind; the others stay."""
        until = time.monotonic() + PATIENCE
        while True:
            for event in self.seen:
                if isinstance(event, kind) and when(event):
                    self.seen.remove(event)
                    return event
            assert time.monotonic() < until, f"no {kind.__name__}; seen {self.seen}"
            if select.select([self.engine.fileno()], [], [], 0.1)[0]:
                self.seen += self.engine.poll_events()

    def run(self, correlation: int) -> _core.Done:
        """The answer to a command."""
        return self.wait(_core.Done, lambda done: done.correlation == correlation)

    def carried_out(self, answer: str | int | None) -> str | None:
        """What came of a command that may have been carried out at once; it went well."""
        if not isinstance(answer, int):
            return answer
        done = self.run(answer)
        assert done.error is None
        return done.codec

    def ended(self, leg: int) -> _core.Ended:
        return self.wait(_core.Ended, lambda ended: ended.leg == leg)

    def dial(self, uri: str, **options: Any) -> int:
        leg = self.engine.new_sip_leg()
        options = {"from_uri": "sip:alice@example.com", "codecs": ["PCMU", "PCMA"], **options}
        self.carried_out(self.engine.dial(leg, uri=uri, **options))
        return leg


def held() -> tuple[set[str], int]:
    """Descriptors by what they are, and the number of threads of this process."""
    gc.collect()
    descriptors = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            continue  # the one that listed the folder
    return descriptors, len(list(Path("/proc/self/task").iterdir()))
