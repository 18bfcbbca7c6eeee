"""Ports for gateways and peers of tests: each test process has a share, which the kernel hands to nobody."""

import contextlib
import itertools
import os
import random
import socket

FIRST, LAST = 16_000, 30_000
"""Below those that Linux gives to whoever asks for any (32768 on): none is lost before it is bound."""


def share(worker: int, workers: int) -> range:
    """Every process its part of the range, so that two that run at once never name the same port."""
    size = (LAST - FIRST) // workers // 2 * 2
    return range(FIRST + worker * size, FIRST + (worker + 1) * size)


def _mine() -> range:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return share(int(worker), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _shuffled() -> "itertools.cycle[int]":
    # Even ones, each followed by its odd neighbour; another run beside this one begins elsewhere.
    mine = _mine()
    start = random.SystemRandom().randrange(len(mine) // 2) * 2
    return itertools.cycle([*mine[start::2], *mine[:start:2]])


_candidates = _shuffled()


def _is_free(port: int) -> bool:
    with contextlib.ExitStack() as held, contextlib.suppress(OSError):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            probe = held.enter_context(socket.socket(socket.AF_INET, kind))
            # What a listener that is gone leaves waiting is in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
            probe.bind(("127.0.0.1", port))
        return True
    return False


def free_port() -> int:
    """An even port of UDP and TCP that nobody holds now, and neither its odd neighbour."""
    for port in itertools.islice(_candidates, 200):
        if _is_free(port) and _is_free(port + 1):
            return port
    raise RuntimeError("no free port on loopback")
