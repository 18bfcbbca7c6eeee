"""Trunks and routes changed while the gateway runs: checked whole, shown to the engine, written, adopted.

A change that cannot be checked changes nothing. Nodes that share a database look every `POLL` seconds whether
another has changed the plan. Calls that run keep what they were given.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog

from telephony_gateway.calls import plain
from telephony_gateway.calls.plan import MAX_ROWS, Plan, Route, User, read_plan, trunks_of
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Target, Voucher
from telephony_gateway.calls.routing import Routing
from telephony_gateway.calls.stored import (
    Composed,
    Entry,
    Key,
    PlanChange,
    PlanStore,
    RowKind,
    StoredPlan,
    StoredRow,
    compose,
)
from telephony_gateway.calls.tables import Fault
from telephony_gateway.calls.trunks import Stir, Trunk
from telephony_gateway.calls.vouching import NobodyVouches
from telephony_gateway.errors import ConfigError, GatewayError, Invalid, NotFound, VersionMismatch, WrongState

log = structlog.get_logger(__name__)

POLL: Final = 2.0
"""Seconds between two looks at the shared plan."""
MANY: Final = 200
"""Rows that are put together in some 50 ms."""
ATTEMPTS: Final = 5
"""How often a change is checked anew because another came between."""


OF_THE_FILE: Final = "is managed by the running gateway's gateway.toml: change it there"


class Trunks(Protocol):
    """What the engine does with trunks."""

    def set_trunks(self, document: bytes) -> None:
        """Replace them; `Invalid` when it cannot."""
        ...

    def check_trunks(self, document: bytes) -> None:
        """`Invalid` when it could not; nothing is changed."""
        ...

    def set_dial_plan(self, document: bytes) -> None:
        """Replace the plain part of the plan, which other trunks make void."""
        ...

    def set_users(self, document: bytes) -> None:
        """Replace the users whose phones register here."""
        ...

    def targets(self) -> Sequence[Target]:
        """Those that failed or are probed."""
        ...


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a route shall stand among those of the API: at most one of these."""

    position: int | None = None
    before: str | None = None
    after: str | None = None


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the trunks, or of the routes, by name."""

    created: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: list[str]


class PlanDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a file does, or would do."""

    dry_run: bool
    trunks: Changes
    routes: Changes
    reordered: bool


Make = Callable[[Composed, Sequence[StoredRow]], PlanChange]


class Provisioning:
    """Owns the plan of a node: `gateway.toml`, read at the start and when asked to, and the store's rows."""

    def __init__(
        self,
        *,
        store: PlanStore,
        engine: Trunks,
        routing: Routing,
        policy: Policy | None = None,
        voucher: Voucher | None = None,
    ) -> None:
        self._store = store
        self._policy = policy or Policy()
        self._engine = engine
        self._voucher = voucher or NobodyVouches()
        self._routing = routing
        self._file = routing.plan
        self._stored = StoredPlan()
        self._refused: dict[str, str] = {}
        self._state = self._compose(())
        self._lock = asyncio.Lock()
        self._told = self._users_told = b""
        self._plain_told = b""
        """Empty while the engine may have another dial plan than this, or none."""
        self._vouched: Mapping[str, Stir] = {}
        self._away = False

    async def start(self) -> None:
        """Load the rows and give the engine its trunks; a row with a fault is logged and left out."""
        async with self._lock:
            await self._reload()
            self._tell_users()

    async def take_file(self, plan: Plan, environ: Mapping[str, str]) -> None:
        """Another `gateway.toml` in place of the one before, and secrets anew; `GatewayError` when something
        in it cannot be used: then all stays as it was. Rows of the API that no longer fit are left out.
        """
        async with self._lock:
            self._engine.check_trunks(self._routing.document_of(plan, environ))
            for trunk in plan.trunks:
                self._voucher.check(trunk.name, trunk.stir)
            stored = await self._store.load_plan()
            before = self._file, self._routing.environ
            self._file, self._routing.environ = plan, environ
            try:
                await self._recompose(stored, anew=True)
                self._tell_users()
            except BaseException:
                self._file, self._routing.environ = before
                raise

    async def watch(self) -> None:
        """Follow what other nodes change, for ever."""
        while True:
            await asyncio.sleep(POLL)
            await self._look()

    @property
    def users(self) -> Sequence[User]:
        """The SIP phones' accounts: they belong to the file."""
        return self._file.users

    def targets(self) -> Mapping[str, list[Target]]:
        """The targets that failed or are probed, by trunk."""
        found: dict[str, list[Target]] = {}
        for target in self._engine.targets():
            found.setdefault(target.trunk, []).append(target)
        return found

    def entries(self, kind: RowKind) -> list[Entry]:
        """All trunks, or all routes in the order they are tried."""
        return [entry for entry in self._state.entries if entry.kind == kind]

    def entry(self, kind: RowKind, name: str) -> Entry:
        """One of them; where file and store have the same name, the file's."""
        found = [entry for entry in self.entries(kind) if entry.name == name]
        if not found:
            raise NotFound(f"no {kind} is named {name!r}")
        return min(found, key=lambda entry: entry.stored is not None)

    async def put(
        self,
        kind: RowKind,
        name: str,
        edit: Callable[[Entry | None], Mapping[str, Any]],
        *,
        place: Place | None = None,
        expected: int | None = None,
    ) -> Entry:
        """Write a row anew; `edit` makes it of the one that is there (and refuses by raising)."""

        def make(state: Composed, rows: Sequence[StoredRow]) -> PlanChange:
            found = self._mine(state, kind, name, expected)
            row = StoredRow(kind=kind, name=name, position=0, row=edit(found))
            return _placed(row, rows, place if kind == "route" else None)

        await self._commit(make)
        return self.entry(kind, name)

    async def delete(self, kind: RowKind, name: str, *, expected: int | None = None) -> None:
        """Remove a row; `WrongState` names the route that needs it."""

        def make(state: Composed, _rows: Sequence[StoredRow]) -> PlanChange:
            if self._mine(state, kind, name, expected) is None:
                raise NotFound(f"no {kind} is named {name!r}")
            if kind == "trunk":
                _refuse_if_named(name, state)
            return PlanChange(removed=((kind, name),))

        await self._commit(make)

    async def apply(self, tables: Mapping[str, Any], *, dry_run: bool) -> PlanDiff:
        """Make the API's trunks and routes those of a file, all or nothing."""
        many = sum(len(rows) for rows in tables.values() if isinstance(rows, list)) > MANY
        wanted = await asyncio.to_thread(self._wanted, tables) if many else self._wanted(tables)
        diff: list[PlanDiff] = []

        def make(_state: Composed, rows: Sequence[StoredRow]) -> PlanChange:
            change, found = _difference(rows, wanted, dry_run)
            diff[:] = [found]
            return change

        await self._commit(make, dry_run=dry_run)
        return diff[0]

    def _wanted(self, tables: Mapping[str, Any]) -> list[StoredRow]:
        file = {entry.key: entry.value for entry in self._state.entries if entry.stored is None}
        plan, faults = read_plan(tables, self._routing.environ, known=[name for _, name in file])
        if plan.users and plan.users != self._file.users:
            faults.append(Fault("users", "", OF_THE_FILE))
        if faults:
            raise _invalid("the plan does not fit", faults)
        values = _keyed("trunk", plan.trunks, tables) + _keyed("route", plan.routes, tables)
        foreign = [key for key, value, _ in values if key in file and file[key] != value]
        if foreign:
            named = [Fault(f"{kind} {name!r}", "", OF_THE_FILE) for kind, name in foreign]
            raise _invalid("the plan does not fit", named)
        return [
            StoredRow(kind=key[0], name=key[1], position=index, row=row)
            for index, (key, _, row) in enumerate(values)
            if key not in file
        ]

    def _mine(self, state: Composed, kind: RowKind, name: str, expected: int | None) -> Entry | None:
        found = [entry for entry in state.entries if entry.key == (kind, name)]
        stored = next((entry for entry in found if entry.stored is not None), None)
        if found and stored is None:
            raise WrongState(f"{kind} {name!r} is managed by gateway.toml: change it there, then send SIGHUP")
        version = stored.stored.version if stored is not None and stored.stored is not None else None
        if expected is not None and version != expected:
            now = "it is not there" if version is None else f"it is at version {version}"
            raise VersionMismatch(f"{kind} {name!r} is not at version {expected}: {now}")
        return stored

    async def _commit(self, make: Make, *, dry_run: bool = False) -> None:
        async with self._lock:
            for _ in range(ATTEMPTS):
                change = make(self._state, self._stored.rows)
                rows = _bounded(change.applied_to(self._stored.rows))
                composed = await self._composed(rows)
                self._refuse_faults(composed, change)
                if dry_run or change == PlanChange() or await self._save(change, composed):
                    return
                await self._reload()
        raise WrongState("other changes of the plan came between too often: try again")

    async def _save(self, change: PlanChange, composed: Composed) -> bool:
        """Engine first: it may know a reason against the change, and a write that fails is undone there."""
        try:
            self._tell(composed.plan)
        except ConfigError as error:
            raise Invalid(error.fix) from None
        try:
            revision = await self._store.save_plan(self._stored.revision, change)
        except BaseException:
            self._tell(self._state.plan)
            self._tell_plain()
            raise
        if revision is not None:
            self._routing.adopt(composed.plan)
            await self._reload()
        return revision is not None

    def _refuse_faults(self, composed: Composed, change: PlanChange) -> None:
        touched = {row.key for row in change.put}
        already = {entry.key for entry in self._state.faulty}
        wrong = [entry for entry in composed.faulty if entry.key in touched or entry.key not in already]
        if wrong:
            raise _invalid("the plan would not fit", [fault for entry in wrong for fault in entry.faults])

    async def _look(self) -> None:
        """Errors are told once, when they begin. What the engine did not take is told again."""
        try:
            if await self._store.plan_revision() != self._stored.revision or not self._plain_told:
                async with self._lock:
                    await self._reload()
            self._away = False
        except Exception as error:  # or nobody would look ever again
            if not self._away:
                log.warning("the shared plan cannot be read", error=str(error), kind=type(error).__name__)
            self._away = True

    async def _reload(self) -> None:
        await self._recompose(await self._store.load_plan())

    async def _recompose(self, stored: StoredPlan, *, anew: bool = False) -> None:
        self._refused = {}
        composed = await self._composed(stored.rows)
        try:
            self._tell(composed.plan, anew=anew)
        except GatewayError:
            self._refused = self._refusals(composed)
            composed = await self._composed(stored.rows)
            self._tell(composed.plan, anew=anew)
        already = {entry.key: entry.faults for entry in self._state.faulty}
        for entry in composed.faulty:
            if already.get(entry.key) != entry.faults:
                faults = [str(fault) for fault in entry.faults]
                log.error("left out of the plan", kind=entry.kind, name=entry.name, faults=faults)
        # Not before the trunks are told: the rows of a revision that is held are not read again.
        self._stored, self._state = stored, composed
        self._routing.adopt(composed.plan)
        self._tell_plain()

    def _refusals(self, composed: Composed) -> dict[str, str]:
        """The API's trunks that cannot be used, each asked by itself: those that run are not disturbed."""
        refused = {}
        for entry in composed.entries:
            if entry.stored is not None and isinstance(trunk := entry.value, Trunk) and not entry.faults:
                try:
                    self._engine.check_trunks(self._routing.document_of(Plan(trunks=(trunk,))))
                    self._voucher.check(trunk.name, trunk.stir)
                except GatewayError as error:
                    refused[entry.name] = error.message
        return refused

    def _tell(self, plan: Plan, *, anew: bool = False) -> None:
        """Both take it, or neither."""
        document = self._routing.document_of(plan)
        vouched = {trunk.name: trunk.stir for trunk in plan.trunks}
        self._voucher.configure(vouched, anew=anew)
        if document != self._told:
            try:
                self._engine.set_trunks(document)
            except BaseException:
                self._voucher.configure(self._vouched)
                raise
            self._told, self._plain_told = document, b""
        self._vouched = vouched

    def _tell_plain(self) -> None:
        if (document := plain.document(self._routing, self._policy)) != self._plain_told:
            self._plain_told = b""
            self._engine.set_dial_plan(document)
            self._plain_told = document

    def _tell_users(self) -> None:
        if (document := self._routing.users_document) != self._users_told:
            self._engine.set_users(document)
            self._users_told = document

    async def _composed(self, rows: Sequence[StoredRow]) -> Composed:
        """Off the loop, where calls wait, when it takes long."""
        return await asyncio.to_thread(self._compose, rows) if len(rows) > MANY else self._compose(rows)

    def _compose(self, rows: Sequence[StoredRow]) -> Composed:
        return compose(self._file, rows, self._routing.environ, self._refused)


def _bounded(rows: tuple[StoredRow, ...]) -> tuple[StoredRow, ...]:
    """As many of each as a file may have."""
    kind, most = max(Counter(row.kind for row in rows).items(), key=lambda item: item[1], default=("row", 0))
    if most > MAX_ROWS:
        raise Invalid(f"there are {MAX_ROWS} {kind}s already: no more can be made")
    return rows


def _keyed(
    kind: RowKind, values: Sequence[Trunk] | Sequence[Route], tables: Mapping[str, Any]
) -> list[tuple[Key, Trunk | Route, Any]]:
    """Each value with the row that it was read from."""
    rows = tables.get(f"{kind}s", ())
    both: Iterable[tuple[Trunk | Route, Any]] = zip(values, rows, strict=True)
    return [((kind, value.name), value, row) for value, row in both]


def _placed(row: StoredRow, rows: Sequence[StoredRow], place: Place | None) -> PlanChange:
    """The row at its place, and those that make room for it; without a place it stays, or comes last."""
    order = [other for other in rows if other.kind == row.kind]
    names = [other.name for other in order]
    index = _index(row.name, names, place)
    others = [other for other in order if other.name != row.name]
    line = [*others[:index], row, *others[index:]]
    placed = [msgspec.structs.replace(other, position=number) for number, other in enumerate(line)]
    before = {other.name: other.position for other in order}
    moved = tuple(other for other in placed if before.get(other.name, other.position) != other.position)
    moved = tuple(other for other in moved if other.name != row.name)
    return PlanChange(put=(placed[index],), moved=moved)


def _index(name: str, names: Sequence[str], place: Place | None) -> int:
    others = [other for other in names if other != name]
    if place is None or place == Place():
        return names.index(name) if name in names else len(others)
    if place.position is not None:
        return min(place.position - 1, len(others))
    anchor = place.before or place.after or ""
    if anchor not in others:
        field = "before" if place.before else "after"
        raise Invalid("the place does not fit", [(field, f"no other route of the API is named {anchor!r}")])
    return others.index(anchor) + (place.before is None)


def _refuse_if_named(name: str, state: Composed) -> None:
    named = [entry.name for entry in state.entries if _names(entry, name)]
    if named:
        routes = ", ".join(repr(route) for route in named)
        raise WrongState(f"trunk {name!r} is named by route {routes}: change or delete that first")


def _names(entry: Entry, trunk: str) -> bool:
    return isinstance(entry.value, Route) and trunk in trunks_of(entry.value)


def _difference(
    rows: Sequence[StoredRow], wanted: Sequence[StoredRow], dry_run: bool
) -> tuple[PlanChange, PlanDiff]:
    there, coming = {row.key: row for row in rows}, {row.key: row for row in wanted}
    put = tuple(row for row in wanted if row.key not in there or there[row.key].row != row.row)
    same = [row for row in wanted if row.key in there and there[row.key].row == row.row]
    moved = tuple(
        msgspec.structs.replace(there[row.key], position=row.position)
        for row in same
        if there[row.key].position != row.position
    )
    removed = tuple(key for key in there if key not in coming)
    diff = PlanDiff(
        dry_run=dry_run,
        trunks=_changes("trunk", there.keys(), put, same, removed),
        routes=_changes("route", there.keys(), put, same, removed),
        reordered=_order(there.values(), coming) != _order(coming.values(), there),
    )
    return PlanChange(put=put, moved=moved, removed=removed), diff


def _order(rows: Iterable[StoredRow], among: Mapping[Key, StoredRow]) -> list[str]:
    return [row.name for row in rows if row.kind == "route" and row.key in among]


def _changes(
    kind: RowKind,
    there: Iterable[Key],
    put: Sequence[StoredRow],
    same: Sequence[StoredRow],
    removed: Sequence[Key],
) -> Changes:
    known = set(there)
    return Changes(
        created=[row.name for row in put if row.kind == kind and row.key not in known],
        changed=[row.name for row in put if row.kind == kind and row.key in known],
        removed=[name for removed_kind, name in removed if removed_kind == kind],
        unchanged=[row.name for row in same if row.kind == kind],
    )


def _invalid(message: str, faults: Sequence[Fault]) -> Invalid:
    """The first fault in the message, all of them as errors."""
    errors = [(f"{fault.table}: {fault.field}".rstrip(": "), fault.what) for fault in faults]
    return Invalid(f"{message}: {faults[0]}", errors)
