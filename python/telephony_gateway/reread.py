"""SIGHUP: `gateway.toml`, `.env` and the files that trunks name are read anew, whole or not at all."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import structlog

from telephony_gateway.calls.plan import Plan, read_plan
from telephony_gateway.config import environment, load_tables
from telephony_gateway.errors import GatewayError

log = structlog.get_logger(__name__)

PATIENCE: Final = 30.0
"""Seconds for the engine and the database to take a plan."""
MAX_TOLD: Final = 50
"""Faults told in one line of the log; `telephony-gateway check` lists them all."""

TakeFile = Callable[[Plan, Mapping[str, str]], Awaitable[None]]


class Rereading:
    """Reads the file again whenever it is asked to."""

    def __init__(self, path: Path | None, take: TakeFile) -> None:
        self._path = path
        self._take = take

    async def follow(self, asked: asyncio.Event) -> None:
        """Read it each time the event is set, for ever."""
        while True:
            await asked.wait()
            asked.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.again()
            except GatewayError as error:
                _stays([error.message])
            except TimeoutError:
                _stays([f"it was not taken within {PATIENCE:g} s"])
            except Exception:
                log.exception("gateway.toml was not read anew")

    async def again(self) -> None:
        """Read it once; what is wrong is told in the log, and the plan before stays."""
        if self._path is None:
            log.warning("nothing to read anew: GATEWAY_CONFIG is not set")
            return
        plan, environ, faults = await asyncio.to_thread(_read, self._path)
        if faults:
            _stays(faults)
            return
        await self._take(plan, environ)
        rows = {"trunks": len(plan.trunks), "routes": len(plan.routes), "users": len(plan.users)}
        log.info("gateway.toml read anew", **rows)


def _read(path: Path) -> tuple[Plan, Mapping[str, str], list[str]]:
    environ = environment()
    plan, faults = read_plan(load_tables(path), environ)
    return plan, environ, [str(fault) for fault in faults]


def _stays(faults: list[str]) -> None:
    log.error("gateway.toml refused, the plan before stays", faults=faults[:MAX_TOLD], count=len(faults))
