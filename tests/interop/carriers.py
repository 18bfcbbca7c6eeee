"""A gateway between carriers: who is dialled how decides what the callee's trunk is like."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.interop.exchange import Exchange
from tests.interop.gateway import gateway
from tests.ports import free_port

TABLES = """
[[trunks]]
name = "carrier"
addresses = ["127.0.0.1"]
uri = "sip:127.0.0.1:{callee}"
codecs = ["PCMU", "PCMA"]

[[trunks]]
name = "strict"
addresses = ["127.0.0.2"]
100rel = "require"

[[trunks]]
name = "demanding"
uri = "sip:127.0.0.1:{callee}"
100rel = "require"

[[routes]]
name = "demanding"
match = {{ to = "^1" }}
target = {{ trunk = "demanding" }}

[[routes]]
name = "carrier"
match = {{ to = "^7" }}
target = {{ trunk = "carrier" }}
"""
BRIEF = """
[[trunks]]
name = "{name}"
uri = "sip:127.0.0.1:{port}"
session_expires = 90

[[routes]]
name = "{name}"
match = {{ to = "^{number}$" }}
target = {{ trunk = "{name}" }}
"""


class Carriers(Exchange):
    """Numbers that begin with 7 are dialled plainly; sessions of `brief` numbers, each with a port of its
    own, last 90 seconds."""

    DEMANDING = "1000"
    STRICT = "127.0.0.2"
    brief: dict[str, tuple[str, int]]


@contextlib.asynccontextmanager
async def between_carriers(folder: Path, *brief: str) -> AsyncIterator[Carriers]:
    """Start it; at the end everything that calls took must have come back, transactions included."""
    callee = free_port()
    sessions = {name: (str(2000 + number), free_port()) for number, name in enumerate(brief)}
    tables = folder / "gateway.toml"
    rows = [BRIEF.format(name=name, number=number, port=port) for name, (number, port) in sessions.items()]
    tables.write_text(TABLES.format(callee=callee) + "".join(rows))
    async with gateway(folder, GATEWAY_CONFIG=str(tables)) as running:
        before = await running.use()
        carriers = Carriers(running, callee)
        carriers.brief = sessions
        yield carriers
        await running.settled(before, 45, transactions=True)
