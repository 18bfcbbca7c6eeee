"""Participants' tickets: a token opens one call. Only its SHA-256 is kept; the token itself is shown once."""

import hashlib
import secrets
from uuid import UUID

import msgspec

from telephony_gateway.calls.ids import IdSource
from telephony_gateway.calls.journal import Journal
from telephony_gateway.calls.model import Call, Session, SessionRole
from telephony_gateway.calls.policy import Policy
from telephony_gateway.calls.ports import Browser, Cache
from telephony_gateway.errors import SessionNotFound, Unauthorized

MAX_TOKEN = 128


def token_hash(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tickets:
    """Makes and checks tickets."""

    def __init__(self, *, cache: Cache, journal: Journal, ids: IdSource, policy: Policy) -> None:
        self._cache = cache
        self._journal = journal
        self._ids = ids
        self._policy = policy

    async def issue(self, call: Call, role: SessionRole, ws_url: str | None = None) -> Session:
        """A new ticket; the one place where its token can be read."""
        token = secrets.token_urlsafe(32)
        kept = self._session(call, role, ws_url, token_hash(token))
        await self._cache.put_session(token_hash(token), kept, self._policy.session_ttl)
        self._journal.session(kept)
        return msgspec.structs.replace(kept, token=token)

    async def admit(self, browser: Browser, call: Call, token: str | None) -> Session:
        """The ticket that a browser joins with: its token's, or a new one if it may join without."""
        if token is not None:
            return await self._redeem(call.id, token)
        if self._policy.authentication and not browser.authenticated:
            raise Unauthorized("authenticate first, or join with a session's token")
        return self._session(call, "agent", None, None)

    async def _redeem(self, call_id: UUID, token: str) -> Session:
        found = await self._cache.find_session(token_hash(token)) if len(token) <= MAX_TOKEN else None
        if found is None or found.call_id != call_id:
            raise SessionNotFound("the token opens no session of this call")
        return found

    def _session(self, call: Call, role: SessionRole, ws_url: str | None, digest: str | None) -> Session:
        return Session(
            id=self._ids.new(),
            call_id=call.id,
            role=role,
            created_at=self._journal.clock.now(),
            ws_url=ws_url or self._policy.ws_url,
            ice_servers=self._policy.ice_servers,
            token_hash=digest,
        )
