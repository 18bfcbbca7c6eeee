"""The lasting record of calls: PostgreSQL, a server that is named or the embedded one.

What it is: a write queue that calls never wait for (`writer`), reads (`postgres`, `queries`), migrations
(`migrate`) and the supervisor of an embedded server (`embedded`). What it never does: decide about calls.
How to drive it: `PostgresStore(dsn)`, `await start()`, `record(...)`, `await close()`.
"""

from telephony_gateway.store.embedded import EmbeddedPostgres
from telephony_gateway.store.postgres import PostgresStore

__all__ = ["EmbeddedPostgres", "PostgresStore"]
