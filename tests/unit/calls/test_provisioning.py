"""The plan while it changes: rivals, refusals of the engine, a database that is away, rows with faults."""

import time
from typing import Any

import pytest

from telephony_gateway.calls import plain, provisioning
from telephony_gateway.calls.plan import Plan, read_plan
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Target
from telephony_gateway.calls.provisioning import Provisioning
from telephony_gateway.calls.routing import Routing
from telephony_gateway.calls.stored import PlanChange, StoredRow, compose
from telephony_gateway.errors import GatewayError, Invalid, Overloaded, StoreUnavailable, WrongState
from tests.unit.plan_store import MemoryPlan


class Engine:
    """Refuses documents that hold a word."""

    def __init__(self) -> None:
        self.documents: list[bytes] = []
        self.users: list[bytes] = []
        self.plain: list[bytes] = []
        self.refuses = b"never"
        self.busy: set[str] = set()
        self.dial_plan = b""

    def set_trunks(self, document: bytes) -> None:
        if "set_trunks" in self.busy:
            raise Overloaded("the engine is behind")
        if self.refuses in document:
            raise Invalid("the certificate is not there")
        self.documents.append(document)
        self.dial_plan = b""

    def check_trunks(self, document: bytes) -> None:
        if self.refuses in document:
            raise Invalid("the certificate is not there")

    def set_dial_plan(self, document: bytes) -> None:
        if "set_dial_plan" in self.busy:
            raise Overloaded("the engine is behind")
        self.plain.append(document)
        self.dial_plan = document

    def set_users(self, document: bytes) -> None:
        self.users.append(document)

    def targets(self) -> list[Target]:
        return []


def row(name: str, kind: Any = "trunk", position: int = 0, **keys: Any) -> StoredRow:
    return StoredRow(kind=kind, name=name, position=position, row={"name": name, **keys}, version=1)


async def made(*rows: StoredRow, file: Any = None) -> tuple[Provisioning, MemoryPlan, Engine, Routing]:
    routing = Routing.from_tables(file or {}, development=False, environ={})
    store, engine = MemoryPlan(rows), Engine()
    found = Provisioning(store=store, engine=engine, routing=routing)
    await found.start()
    return found, store, engine, routing


async def test_rows_with_faults_are_left_out_and_say_why() -> None:
    plan, _, engine, routing = await made(
        row("good", addresses=["192.0.2.0/24"], uri="sip:192.0.2.1"),
        row("secret", username="u", password_env="NOT_THERE"),
        row("later", colour="red"),
        row("file"),
        row("lost", "route", 1, target={"trunk": "secret"}),
        row("found", "route", 2, target={"trunk": "good"}),
        StoredRow(kind="route", name="odd", position=3, row=["no", "table"]),
        file={"trunks": [{"name": "file", "max_calls": 7}]},
    )
    faults = {entry.name: [str(fault) for fault in entry.faults] for entry in plan.entries("trunk")}
    assert faults["good"] == []
    assert "NOT_THERE" in faults["secret"][0]
    assert "colour: is no key" in faults["later"][0]
    assert [entry.name for entry in plan.entries("route") if entry.faults] == ["lost", "odd"]
    assert routing.route_names == ["found"]
    assert plan.entry("trunk", "file").stored is None
    assert engine.documents[-1].count(b'"name"') == 2


async def test_a_row_that_the_engine_refuses_is_left_out_alone() -> None:
    routing = Routing.from_tables({}, development=False, environ={})
    engine, store = Engine(), MemoryPlan([row("good"), row("broken"), row("fine")])
    engine.refuses = b"broken"
    plan = Provisioning(store=store, engine=engine, routing=routing)
    await plan.start()
    assert list(routing.trunks) == ["good", "fine"]
    assert [str(fault) for fault in plan.entry("trunk", "broken").faults] == [
        "trunk 'broken': the certificate is not there"
    ]


async def test_a_change_that_the_engine_refuses_is_not_written() -> None:
    plan, store, engine, routing = await made()
    engine.refuses = b"broken"
    with pytest.raises(Invalid, match="certificate"):
        await plan.put("trunk", "broken", lambda _: {"name": "broken"})
    assert store.stored.rows == ()
    assert "broken" not in routing.trunks


async def test_a_write_that_fails_is_undone_in_the_engine() -> None:
    plan, store, engine, routing = await made()
    store.fault = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await plan.put("trunk", "t", lambda _: {"name": "t"})
    assert engine.documents[-1] == routing.engine_document
    assert "t" not in routing.trunks
    # Other trunks made the dial plan void.
    assert engine.dial_plan == plain.document(routing, Policy())


async def test_what_the_engine_did_not_take_of_a_revision_is_told_again() -> None:
    plan, store, engine, routing = await made()
    store.write(PlanChange(put=(row("t"),)))
    engine.busy = {"set_trunks"}
    await plan._look()
    assert "t" not in routing.trunks
    engine.busy = set()
    await plan._look()
    assert "t" in routing.trunks
    assert b'"t"' in engine.documents[-1]


async def test_a_dial_plan_that_the_engine_did_not_take_is_told_again() -> None:
    plan, store, engine, routing = await made()
    store.write(PlanChange(put=(row("r", "route", target={"reject": 404}),)))
    engine.busy = {"set_dial_plan"}
    await plan._look()
    assert routing.route_names == ["r"]
    assert b'"r"' not in engine.dial_plan
    engine.busy = set()
    await plan._look()
    assert engine.dial_plan == plain.document(routing, Policy())
    told = len(engine.plain)
    await plan._look()
    assert len(engine.plain) == told


async def test_a_file_that_the_engine_did_not_take_hides_no_revision() -> None:
    plan, store, engine, routing = await made()
    store.write(PlanChange(put=(row("t"),)))
    engine.busy = {"set_trunks"}
    with pytest.raises(Overloaded):
        await plan.take_file(read({"trunks": [{"name": "new"}]}), {})
    engine.busy = set()
    await plan._look()
    assert set(routing.trunks) == {"t"}


async def test_a_rivals_change_is_checked_against() -> None:
    plan, store, _, routing = await made(row("t", uri="sip:192.0.2.1"))
    store.rival = PlanChange(put=(row("r", "route", 1, target={"trunk": "t"}),))
    with pytest.raises(WrongState, match="route 'r'"):
        await plan.delete("trunk", "t")
    store.rival = PlanChange(put=(row("x"),))
    await plan.put("trunk", "y", lambda _: {"name": "y"})
    assert set(routing.trunks) == {"t", "x", "y"}


async def test_another_nodes_change_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store, engine, routing = await made()
    store.write(PlanChange(put=(row("t"),)))
    await plan._look()
    assert list(routing.trunks) == ["t"]
    told = len(engine.documents)
    await plan._look()
    assert len(engine.documents) == told

    async def away() -> int:
        raise StoreUnavailable("away")

    monkeypatch.setattr(store, "plan_revision", away)
    await plan._look()
    assert list(routing.trunks) == ["t"]
    assert provisioning.POLL <= 3


async def test_nothing_of_a_fault_is_adopted() -> None:
    plan, store, _, _ = await made(row("bad", "route", target={"trunk": "nobody"}))
    # A fault that was there before does not stop a change that has none.
    await plan.put("trunk", "t", lambda _: {"name": "t"})
    with pytest.raises(GatewayError):
        await plan.put("route", "r", lambda _: {"name": "r", "target": {}})
    assert {r.name for r in store.stored.rows} == {"bad", "t"}
    # And what it missed may come: then it is good.
    await plan.put("trunk", "nobody", lambda _: {"name": "nobody", "uri": "sip:192.0.2.1"})
    assert plan.entry("route", "bad").faults == ()


async def test_a_plan_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisioning, "MAX_ROWS", 2)
    plan, store, _, _ = await made(row("a"), row("b"))
    with pytest.raises(Invalid, match="there are 2 trunks already"):
        await plan.put("trunk", "c", lambda _: {"name": "c"})
    await plan.put("route", "r", lambda _: {"name": "r", "target": {"reject": 404}})
    assert len(store.stored.rows) == 3


def test_a_great_plan_is_put_together_in_time() -> None:
    """Each row by itself: nothing may look through all the others for every one."""
    count = 3000
    trunks = [row(f"t{n}", position=n, uri=f"sip:t{n}.example") for n in range(count)]
    wanted = [{"trunk": f"t{n}"} for n in range(count)]
    routes = [
        row(f"r{n}", "route", n, match=match, target=match)
        for n, match in zip(range(count), wanted, strict=True)
    ]
    began = time.perf_counter()
    composed = compose(Plan(), [*trunks, *routes], {})
    change = provisioning._placed(row("new", "route"), [*trunks, *routes], provisioning.Place(position=1))
    rows = change.applied_to([*trunks, *routes])
    assert time.perf_counter() - began < 4, "0.3 s on an idle machine; 8 s where each row reads all"
    assert not list(composed.faulty)
    assert len(change.moved) == count
    assert [found.name for found in rows if found.kind == "route"][:2] == ["new", "r0"]


def test_a_change_of_one_route_compiles_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    tables: dict[str, Any] = {"routes": [{"name": "a", "match": {"to": "^1"}, "target": {"reject": 404}}]}
    routing = Routing.from_tables(tables, development=False)
    (kept,) = routing._routes
    tables["routes"].append({"name": "b", "match": {"to": "^2"}, "target": {"reject": 404}})
    routing.adopt(read_plan(tables, {})[0])
    assert routing._routes[0] is kept
    tables["routes"][0]["match"] = {"to": "^3"}
    routing.adopt(read_plan(tables, {})[0])
    found = routing.route(trunk="x", to="3", from_="")
    assert found is not None
    assert found.name == "a"


def read(tables: dict[str, Any], environ: dict[str, str] | None = None) -> Plan:
    plan, faults = read_plan(tables, environ or {})
    assert not faults
    return plan


async def test_another_file_takes_the_place_of_the_one_before() -> None:
    before = {"trunks": [{"name": "old", "uri": "sip:192.0.2.1"}]}
    plan, _, engine, routing = await made(
        row("kept"), row("r", "route", 1, target={"trunk": "old"}), file=before
    )
    assert routing.route_names == ["r"]
    after = {
        "trunks": [{"name": "new", "username": "u", "password_env": "SECRET"}],
        "routes": [{"name": "file", "target": {"reject": 486}}],
        "users": [{"name": "alice", "password_env": "SECRET"}],
    }
    secret = {"SECRET": "s3cret"}
    await plan.take_file(read(after, secret), secret)
    assert set(routing.trunks) == {"new", "kept"}
    assert routing.route_names == ["file"], "a row of the API that no longer fits is left out"
    assert "old" in str(plan.entry("route", "r").faults[0])
    assert b"s3cret" in engine.documents[-1]
    assert b"alice" in engine.users[-1]
    told = len(engine.users), len(engine.documents)
    await plan.take_file(read(after, secret), secret)
    assert (len(engine.users), len(engine.documents)) == told, "nothing has changed"
    await plan.take_file(read(after, secret), {"SECRET": "another"})
    assert b"another" in engine.documents[-1]
    assert b"another" in engine.users[-1]
    await plan.put("trunk", "later", lambda _: {"name": "later"})
    assert set(routing.trunks) == {"new", "kept", "later"}


async def test_a_file_that_cannot_be_used_changes_nothing() -> None:
    plan, store, engine, routing = await made(row("kept"), file={"trunks": [{"name": "old"}]})
    told = list(engine.documents)
    engine.refuses = b"broken"
    with pytest.raises(Invalid):
        await plan.take_file(read({"trunks": [{"name": "broken"}]}), {})

    async def away() -> Any:
        raise StoreUnavailable("away")

    store.load_plan = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await plan.take_file(read({"trunks": [{"name": "new"}]}), {})
    assert set(routing.trunks) == {"old", "kept"}
    assert engine.documents == told


async def test_the_search_for_a_refused_trunk_disturbs_no_other() -> None:
    plan, store, engine, _ = await made(row("good"))
    engine.refuses = b"broken"
    store.write(PlanChange(put=(row("broken"), row("fine"))))
    await plan._look()
    assert all(b"good" in document for document in engine.documents[1:])
    assert b"fine" in engine.documents[-1]


async def test_a_fault_of_the_store_stops_no_later_look(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store, _, routing = await made()

    async def broken() -> int:
        raise RuntimeError("a driver's own")

    with monkeypatch.context() as patched:
        patched.setattr(store, "plan_revision", broken)
        await plan._look()
    store.write(PlanChange(put=(row("t"),)))
    await plan._look()
    assert list(routing.trunks) == ["t"]
