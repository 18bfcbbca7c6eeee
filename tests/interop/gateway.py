"""The gateway as its users run it: one process, spoken to by HTTP, WebSocket and SIP."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.ports import free_port

COMMAND = Path(sys.executable).parent / "telephony-gateway"
TERMINAL = {"completed", "busy", "failed", "no-answer", "canceled"}


async def eventually(probe: Callable[[], Awaitable[Any]], what: str, timeout: float = 10) -> Any:
    """Poll until the probe gives something true; the deadline names what never came."""
    deadline = asyncio.get_running_loop().time() + timeout
    while not (value := await probe()):
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"{what}: not within {timeout} s")
        await asyncio.sleep(0.05)
    return value


def open_files(proc: Path) -> list[str]:
    """What a process has open, but for its database connections: their pool grows to its bound and stays."""
    database = {line.split()[6] for line in (proc / "net/unix").read_text().splitlines()[1:]}
    found = []
    for entry in (proc / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry))
    return [name for name in found if name.removeprefix("socket:[").removesuffix("]") not in database]


def engine_threads(proc: Path) -> int:
    """Threads that Rust named; Python's own pool grows to its bound and stays."""
    names = [(task / "comm").read_text() for task in (proc / "task").iterdir()]
    return sum(name != (proc / "comm").read_text() for name in names)


def describe(proc: Path) -> list[str]:
    """The same for a human: sockets by protocol, addresses (hexadecimal) and state."""
    sockets = {}
    for table in ("tcp", "udp"):
        for line in (proc / "net" / table).read_text().splitlines()[1:]:
            columns = line.split()
            sockets[f"socket:[{columns[9]}]"] = " ".join([table, *columns[1:4]])
    return sorted(sockets.get(name, name) for name in open_files(proc))


@dataclass(frozen=True)
class Use:
    """What the process holds, as counted from outside: nothing may grow from call to call."""

    descriptors: int
    threads: int
    ports: int
    legs: int
    calls: int
    transactions: int


@dataclass
class Gateway:
    """A running gateway."""

    process: asyncio.subprocess.Process
    http_port: int
    sip_port: int
    log: Path
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def sip(self) -> tuple[str, int]:
        return ("127.0.0.1", self.sip_port)

    async def get(self, path: str) -> Any:
        """GET a JSON resource that must be there."""
        async with self.session.get(self.url + path) as response:
            assert response.status == 200, (response.status, await response.text())
            return await response.json()

    async def post(self, path: str, body: dict[str, Any], *, status: int = 200) -> Any:
        """POST JSON, expecting a status."""
        async with self.session.post(self.url + path, json=body) as response:
            assert response.status == status, (response.status, await response.text())
            return await response.json()

    async def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, labels left in the name."""
        async with self.session.get(self.url + "/metrics") as response:
            lines = (await response.text()).splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    async def calls(self) -> list[dict[str, Any]]:
        """Newest first."""
        return list((await self.get("/api/v1/calls?limit=200"))["items"])

    async def ended(self, call_id: str, timeout: float = 10) -> dict[str, Any]:
        """The call once it is over."""

        async def over() -> dict[str, Any] | None:
            call: dict[str, Any] = await self.get(f"/api/v1/calls/{call_id}")
            return call if call["status"] in TERMINAL else None

        ended: dict[str, Any] = await eventually(over, f"end of call {call_id}", timeout)
        return ended

    async def use(self) -> Use:
        """Count what is held now."""
        samples = await self.metrics()
        proc = Path(f"/proc/{self.process.pid}")
        return Use(
            descriptors=len(open_files(proc)),
            threads=engine_threads(proc),
            ports=int(samples["engine_rtp_ports_in_use"]),
            legs=int(samples["engine_legs"]),
            calls=int(samples["active_calls"]),
            transactions=int(samples["engine_sip_transactions"]),
        )

    async def settled(self, before: Use, timeout: float = 15, *, transactions: bool = False) -> None:
        """Wait until nothing more is held than before; transactions (Timer J: 32 s) come last."""

        async def back() -> bool:
            now = await self.use()
            return (
                now.ports <= before.ports
                and now.legs <= before.legs
                and now.calls <= before.calls
                and (now.transactions <= before.transactions or not transactions)
                and now.threads <= before.threads
                and now.descriptors <= before.descriptors
            )

        try:
            await eventually(back, "return of everything taken", timeout)
        except AssertionError:
            left = describe(Path(f"/proc/{self.process.pid}"))
            raise AssertionError(f"leak: {before} became {await self.use()}: {left}") from None

    async def stop(self, timeout: float = 20) -> int:
        """SIGTERM and the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), timeout)


def settings(folder: Path, **overrides: str) -> dict[str, str]:
    """An environment for a gateway of its own: free ports, own data folder."""
    rtp = free_port()
    own = {
        "PORT": str(free_port()),
        "SIP_HOST": "127.0.0.1",
        "SIP_PORT": str(free_port()),
        "WEBRTC_PORT": str(free_port()),
        "RTP_PORT_RANGE": f"{rtp % 20000 + 30000}-{rtp % 20000 + 30199}",
        "DATA_DIR": str(folder / "data"),
        "LOG_LEVEL": "debug",
        "SHUTDOWN_TIMEOUT": "2",
        "RATE_LIMIT": "100000/minute",
    }
    inherited = {
        name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}
    }
    return inherited | own | overrides


@contextlib.asynccontextmanager
async def gateway(folder: Path, *, exit_code: int = 0, **overrides: str) -> AsyncIterator[Gateway]:
    """Start `telephony-gateway serve`, wait until it is ready, stop it at the end, demand its exit code."""
    environment = settings(folder, **overrides)
    log = folder / "gateway.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            str(COMMAND),
            "serve",
            env=environment,
            cwd=folder,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        running = Gateway(process, int(environment["PORT"]), int(environment["SIP_PORT"]), log, session)
        try:
            await ready(running)
            yield running
            assert await running.stop() == exit_code, log.read_text()[-4000:]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def remove_databases(folder: Path) -> None:
    """Remove the databases of gateways whose DATA_DIR is under `folder`: as root they may lie elsewhere."""
    for pointer in folder.rglob("postgres.location"):
        shutil.rmtree(pointer.read_text().strip(), ignore_errors=True)


async def ready(running: Gateway) -> None:
    """Wait for /health/ready, or tell why the process died."""

    async def probe() -> bool:
        if running.process.returncode is not None:
            raise AssertionError(f"the gateway died:\n{running.log.read_text()[-4000:]}")
        with contextlib.suppress(aiohttp.ClientError, OSError):
            async with running.session.get(running.url + "/health/ready") as response:
                return response.status == 200
        return False

    await eventually(probe, "readiness", 30)
