"""Networks of their own for peers: beside the gateway, or behind a router that rewrites addresses."""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.ports import free_port

PRIVATE = "192.168.77"
NUMBERS = itertools.count(free_port())
"""A network each: the kernel takes its time to remove one. Other processes have others."""


@dataclass(frozen=True)
class Network:
    """Where the peer lives, and what both sides see."""

    namespace: str
    gateway: str
    peer: str
    seen_as: str
    """The address that the gateway sees the peer's packets come from."""


async def run(*words: str) -> None:
    """A command that must succeed."""
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0, f"{' '.join(words)}: {said.decode()}"


async def _link(near: str | None, far: str, subnet: str, name: str) -> None:
    """A cable from a namespace (None is ours), at .1, to another, at .2, whose default route it is."""
    await run("ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b")
    await run("ip", "link", "set", f"{name}b", "netns", far)
    inside = ["ip", "-n", near] if near else ["ip"]
    if near:
        await run("ip", "link", "set", f"{name}a", "netns", near)
    for prefix, end, host in ((inside, "a", 1), (["ip", "-n", far], "b", 2)):
        await run(*prefix, "addr", "add", f"{subnet}.{host}/24", "dev", f"{name}{end}")
        await run(*prefix, "link", "set", f"{name}{end}", "up")
    await run("ip", "-n", far, "link", "set", "lo", "up")
    await run("ip", "-n", far, "route", "add", "default", "via", f"{subnet}.1")


@contextlib.asynccontextmanager
async def network(*, nat: bool) -> AsyncIterator[Network]:
    """A namespace for a peer; skips where the user may not make one."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    number = next(NUMBERS)
    name = f"tg{number % 10000}"
    home, router, outside = f"{name}h", f"{name}r", f"10.77.{number % 250}"
    try:
        await run("ip", "netns", "add", home)
        if nat:
            await run("ip", "netns", "add", router)
            await _link(None, router, outside, f"{name}o")
            await _link(router, home, PRIVATE, f"{name}i")
            inside = ("ip", "netns", "exec", router)
            await run(*inside, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            rewriting = ("-A", "POSTROUTING", "-o", f"{name}ob", "-j", "MASQUERADE", "--random")
            await run(*inside, "iptables", "-t", "nat", *rewriting)
        else:
            await _link(None, home, outside, f"{name}o")
        peer = f"{PRIVATE if nat else outside}.2"
        yield Network(home, f"{outside}.1", peer, f"{outside}.2")
    finally:
        for namespace in (home, router)[: 1 + nat]:
            await run("ip", "netns", "del", namespace)
