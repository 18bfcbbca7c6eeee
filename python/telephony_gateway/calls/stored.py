"""Trunks and routes as they are kept: rows whose meaning may have changed since they were written.

`compose` puts them together with those of `gateway.toml`. A row with a fault is left out and says why; it
never stops the gateway.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from telephony_gateway.calls.plan import Plan, Route, routes_faults, trunk_faults
from telephony_gateway.calls.tables import Fault, read
from telephony_gateway.calls.trunks import Trunk

RowKind = Literal["trunk", "route"]
Key = tuple[RowKind, str]


class StoredRow(msgspec.Struct, frozen=True, kw_only=True):
    """A trunk or route of the API; `version` is the revision that wrote it."""

    kind: RowKind
    name: str
    position: int
    row: Any
    version: int = 0
    updated_at: datetime | None = None

    @property
    def key(self) -> Key:
        """What no two rows share."""
        return self.kind, self.name


class StoredPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All rows, as they were at a revision."""

    revision: int = 0
    rows: tuple[StoredRow, ...] = ()


class PlanChange(msgspec.Struct, frozen=True, kw_only=True):
    """Rows to write, to move only, and to remove."""

    put: tuple[StoredRow, ...] = ()
    moved: tuple[StoredRow, ...] = ()
    removed: tuple[Key, ...] = ()

    def applied_to(self, rows: Sequence[StoredRow]) -> tuple[StoredRow, ...]:
        """The rows after it."""
        changed, removed = {row.key: row for row in (*self.moved, *self.put)}, set(self.removed)
        kept = [changed.pop(row.key, row) for row in rows if row.key not in removed]
        return tuple(sorted((*kept, *changed.values()), key=lambda row: (row.position, row.name)))


class PlanStore(Protocol):
    """Where rows are kept, shared by all nodes."""

    async def load_plan(self) -> StoredPlan:
        """All rows and their revision."""
        ...

    async def plan_revision(self) -> int:
        """The revision alone: whether there is anything to load."""
        ...

    async def save_plan(self, expected: int, change: PlanChange) -> int | None:
        """Write a change that was checked against this revision; None when another has come since."""
        ...


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A trunk or route of the running plan, or a row that is left out of it: then `faults` says why."""

    kind: RowKind
    name: str
    value: Trunk | Route | None
    stored: StoredRow | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def key(self) -> Key:
        """What no two entries of one owner share."""
        return self.kind, self.name


class Composed(msgspec.Struct, frozen=True, kw_only=True):
    """The plan that runs, and every entry of file and store. Routes of the API come before the file's: those
    often end with one that takes every call.
    """

    plan: Plan
    entries: tuple[Entry, ...]

    @property
    def faulty(self) -> Iterator[Entry]:
        """What is left out."""
        return (entry for entry in self.entries if entry.faults)


def compose(
    file: Plan,
    rows: Sequence[StoredRow],
    environ: Mapping[str, str],
    refused: Mapping[str, str] | None = None,
) -> Composed:
    """Put file and rows together; `refused` names trunks that the engine does not take, and why."""
    taken: set[Key] = {("trunk", trunk.name) for trunk in file.trunks}
    taken.update(("route", route.name) for route in file.routes)
    trunks = [_trunk_entry(row, taken, environ, refused or {}) for row in rows if row.kind == "trunk"]
    good = (entry.value for entry in trunks if not entry.faults)
    known = Plan(
        trunks=(*file.trunks, *(value for value in good if isinstance(value, Trunk))), users=file.users
    )
    faults = routes_faults(known)
    routes = [_route_entry(row, taken, faults) for row in rows if row.kind == "route"]
    good = (entry.value for entry in routes if not entry.faults)
    plan = msgspec.structs.replace(
        known, routes=(*(value for value in good if isinstance(value, Route)), *file.routes)
    )
    entries = (
        *(Entry(kind="trunk", name=trunk.name, value=trunk) for trunk in file.trunks),
        *trunks,
        *routes,
        *(Entry(kind="route", name=route.name, value=route) for route in file.routes),
    )
    return Composed(plan=plan, entries=entries)


def _trunk_entry(
    row: StoredRow, taken: Container[Key], environ: Mapping[str, str], refused: Mapping[str, str]
) -> Entry:
    table = f"trunk {row.name!r}"
    value, faults = read(Trunk, row.row, table)
    faults += _name_faults(row, value, taken, table)
    if value is not None:
        faults += trunk_faults(value, environ)
    if row.name in refused:
        faults.append(Fault(table, "", refused[row.name]))
    return Entry(kind="trunk", name=row.name, value=value, stored=row, faults=tuple(faults))


def _route_entry(row: StoredRow, taken: Container[Key], wrong: Callable[[Route], Iterator[Fault]]) -> Entry:
    table = f"route {row.name!r}"
    value, faults = read(Route, row.row, table)
    faults += _name_faults(row, value, taken, table)
    if value is not None:
        faults += wrong(value)
    return Entry(kind="route", name=row.name, value=value, stored=row, faults=tuple(faults))


def _name_faults(
    row: StoredRow, value: Trunk | Route | None, taken: Container[Key], table: str
) -> Iterator[Fault]:
    if value is not None and value.name != row.name:
        yield Fault(table, "name", f"is {value.name!r} in the row itself")
    if row.key in taken:
        yield Fault(table, "name", f"gateway.toml has a {row.kind} of this name: that one counts")
