"""Trunks and routes in PostgreSQL: kept over restarts, shared by nodes, guarded against rivals."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from telephony_gateway.calls import provisioning
from telephony_gateway.calls.provisioning import Provisioning
from telephony_gateway.calls.routing import Routing
from telephony_gateway.calls.stored import PlanChange, StoredRow
from telephony_gateway.errors import WrongState
from telephony_gateway.store import PostgresStore


class Engine:
    """Takes every document."""

    def __init__(self) -> None:
        self.document = b""
        self.users = b""
        self.plain = b""

    def set_trunks(self, document: bytes) -> None:
        self.document = document

    def set_dial_plan(self, document: bytes) -> None:
        self.plain = document

    def set_users(self, document: bytes) -> None:
        self.users = document


class Node:
    """One gateway's plan on a database."""

    def __init__(self, store: PostgresStore) -> None:
        self.engine = Engine()
        self.routing = Routing.from_tables({}, development=False, environ={})
        self.plan = Provisioning(store=store.plan, engine=self.engine, routing=self.routing)


@pytest.fixture
async def two_nodes(postgres_url: str) -> AsyncIterator[tuple[Node, Node]]:
    stores = [PostgresStore(postgres_url) for _ in range(2)]
    for store in stores:
        await store.start()
    nodes = (Node(stores[0]), Node(stores[1]))
    for node in nodes:
        await node.plan.start()
    yield nodes
    for store in stores:
        await store.close()


async def make(node: Node, name: str, **keys: object) -> None:
    await node.plan.put("trunk", name, lambda _: {"name": name, **keys})


async def test_another_node_follows_within_seconds(two_nodes: tuple[Node, Node]) -> None:
    first, second = two_nodes
    watch = asyncio.create_task(second.plan.watch())
    try:
        await make(first, "carrier", addresses=["203.0.113.0/24"])
        async with asyncio.timeout(provisioning.POLL + 2):
            while "carrier" not in second.routing.trunks:
                await asyncio.sleep(0.05)
    finally:
        watch.cancel()
    assert b"203.0.113.0/24" in second.engine.document
    entry = second.plan.entry("trunk", "carrier")
    assert entry.stored is not None
    assert entry.stored.updated_at is not None
    assert entry.stored == first.plan.entry("trunk", "carrier").stored


async def test_two_writers_at_once_are_checked_against_each_other(two_nodes: tuple[Node, Node]) -> None:
    first, second = two_nodes
    await asyncio.gather(*(make((first, second)[n % 2], f"t{n}", uri="sip:192.0.2.1") for n in range(6)))
    await make(first, "last")
    assert set(first.routing.trunks) == {"t0", "t1", "t2", "t3", "t4", "t5", "last"}
    # The second node does not know the route yet when it is asked to delete its trunk.
    await first.plan.put("route", "r", lambda _: {"name": "r", "target": {"trunk": "t1"}})
    with pytest.raises(WrongState, match="route 'r'"):
        await second.plan.delete("trunk", "t1")
    versions = [entry.stored.version for entry in first.plan.entries("trunk") if entry.stored]
    assert len(set(versions)) == len(versions)


async def test_order_survives_and_one_statement_writes_all(
    two_nodes: tuple[Node, Node], postgres_url: str
) -> None:
    first, second = two_nodes
    tables = {
        "trunks": [{"name": "a", "uri": "sip:192.0.2.1"}],
        "routes": [{"name": name, "target": {"trunk": "a"}} for name in ("z", "y", "x")],
    }
    await first.plan.apply(tables, dry_run=False)
    await second.plan.start()
    assert second.routing.route_names == ["z", "y", "x"]
    tables["routes"].reverse()
    assert (await second.plan.apply(tables, dry_run=False)).reordered
    await first.plan.start()
    assert first.routing.route_names == ["x", "y", "z"]
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT count(*) FROM plan_rows") == 4
    await connection.close()


async def test_a_row_that_no_gateway_would_write_does_not_stop_the_start(
    two_nodes: tuple[Node, Node], postgres_url: str
) -> None:
    first, second = two_nodes
    await make(first, "good")
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(
        "INSERT INTO plan_rows (kind, name, position, version, row) VALUES "
        """('trunk', 'odd', 0, 1, '{"name": "odd", "uri": 5}'), ('route', 'no', 1, 1, 'null')"""
    )
    await connection.close()
    await second.plan.start()
    assert list(second.routing.trunks) == ["good"]
    assert [
        entry.name for kind in ("trunk", "route") for entry in second.plan.entries(kind) if entry.faults
    ] == [
        "odd",
        "no",
    ]


async def test_a_stale_writer_writes_nothing(store: PostgresStore) -> None:
    row = StoredRow(kind="trunk", name="t", position=0, row={"name": "t"})
    assert await store.plan.save_plan(0, PlanChange(put=(row,))) == 1
    assert await store.plan.save_plan(0, PlanChange(removed=(row.key,))) is None
    assert [kept.name for kept in (await store.plan.load_plan()).rows] == ["t"]
    assert await store.plan.plan_revision() == 1
