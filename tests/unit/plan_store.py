"""Rows of trunks and routes in memory, as PostgreSQL keeps them."""

from collections.abc import Sequence

import msgspec

from telephony_gateway.calls.stored import PlanChange, StoredPlan, StoredRow


class MemoryPlan:
    """Implements `PlanStore`; `fault` is raised by the next write, `rival` comes just before it."""

    def __init__(self, rows: Sequence[StoredRow] = ()) -> None:
        self.stored = StoredPlan(revision=len(rows), rows=tuple(rows))
        self.fault: BaseException | None = None
        self.rival: PlanChange | None = None

    async def load_plan(self) -> StoredPlan:
        return self.stored

    async def plan_revision(self) -> int:
        return self.stored.revision

    async def save_plan(self, expected: int, change: PlanChange) -> int | None:
        if self.fault is not None:
            raise self.fault
        if self.rival is not None:
            rival, self.rival = self.rival, None
            self.write(rival)
        return self.write(change) if self.stored.revision == expected else None

    def write(self, change: PlanChange) -> int:
        revision = self.stored.revision + 1
        put = tuple(msgspec.structs.replace(row, version=revision) for row in change.put)
        change = msgspec.structs.replace(change, put=put)
        self.stored = StoredPlan(revision=revision, rows=change.applied_to(self.stored.rows))
        return revision
