"""Trunks and routes of the API in PostgreSQL: read whole, written all or nothing."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from telephony_gateway.calls.stored import PlanChange, StoredPlan, StoredRow
from telephony_gateway.errors import StoreUnavailable

__all__ = ["PostgresPlan"]

REVISION = "SELECT revision FROM plan_revision"
# One statement, one snapshot: the rows are those of the revision.
LOAD = """
SELECT revision, (
    SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY position, name), '[]') FROM plan_rows AS r
) AS rows FROM plan_revision
"""
ADVANCE = "UPDATE plan_revision SET revision = revision + 1 WHERE revision = $1 RETURNING revision"
REMOVE = """
DELETE FROM plan_rows USING jsonb_to_recordset($1::jsonb) AS gone (kind text, name text)
WHERE plan_rows.kind = gone.kind AND plan_rows.name = gone.name
"""
PUT = """
INSERT INTO plan_rows (kind, name, position, version, row)
SELECT kind, name, position, $2, row
FROM jsonb_to_recordset($1::jsonb) AS x (kind text, name text, position integer, row jsonb)
ON CONFLICT (kind, name) DO UPDATE
SET position = excluded.position, version = excluded.version, row = excluded.row, updated_at = now()
"""
MOVE = """
UPDATE plan_rows SET position = x.position
FROM jsonb_to_recordset($1::jsonb) AS x (kind text, name text, position integer)
WHERE plan_rows.kind = x.kind AND plan_rows.name = x.name
"""

Acquire = Callable[[], AbstractAsyncContextManager[Any]]
_rows = msgspec.json.Decoder(tuple[StoredRow, ...])


class PostgresPlan:
    """Implements `calls.stored.PlanStore` on the connections of the store."""

    def __init__(self, acquire: Acquire) -> None:
        self._acquire = acquire

    async def load_plan(self) -> StoredPlan:
        """All rows and their revision."""
        async with self._acquire() as connection:
            found = await connection.fetchrow(LOAD)
        try:
            return StoredPlan(revision=found["revision"], rows=_rows.decode(found["rows"]))
        except (TypeError, msgspec.ValidationError) as error:
            raise StoreUnavailable(
                f"plan_rows or plan_revision hold what no gateway wrote: {error}"
            ) from error

    async def plan_revision(self) -> int:
        """The revision alone: whether there is anything to load."""
        async with self._acquire() as connection:
            return int(await connection.fetchval(REVISION) or 0)

    async def save_plan(self, expected: int, change: PlanChange) -> int | None:
        """Write a change that was checked against this revision; None when another has come since."""
        async with self._acquire() as connection, connection.transaction():
            revision = await connection.fetchval(ADVANCE, expected)
            if revision is None:
                return None
            await connection.execute(REMOVE, _json([{"kind": k, "name": n} for k, n in change.removed]))
            await connection.execute(PUT, _json(change.put), revision)
            await connection.execute(MOVE, _json(change.moved))
            return int(revision)


def _json(values: Sequence[Any]) -> str:
    return msgspec.json.encode(values).decode()
