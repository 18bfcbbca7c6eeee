"""What the gateway knows of registrations: its own at carriers, and those of phones here.

The engine makes and keeps them; this is what it told last.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec
import structlog

from telephony_gateway.calls import events
from telephony_gateway.calls.ports import Clock

log = structlog.get_logger(__name__)

State = Literal["registered", "failed"]


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A trunk's registration at its carrier."""

    trunk: str
    state: State
    registrar: str | None = None
    expires: float | None = None
    status: int | None = None
    reason: str | None = None
    retry: float | None = None
    changed_at: datetime


class RegistrationList(msgspec.Struct, frozen=True, kw_only=True):
    """The registrations of all trunks that register."""

    items: list[Registration]


class Phone(msgspec.Struct, frozen=True, kw_only=True):
    """One phone of a user that is registered here."""

    uri: str
    q: float
    source: str
    transport: Literal["udp", "tcp", "tls"]
    user_agent: str | None
    expires_at: datetime


class UserPhones(msgspec.Struct, frozen=True, kw_only=True):
    """A user and his phones, the preferred ones first."""

    name: str
    display: str | None
    max_contacts: int
    bindings: list[Phone]


class Registrations:
    """The last word on each."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._own: dict[str, Registration] = {}
        self._phones: dict[str, tuple[datetime, Sequence[events.Binding]]] = {}

    @property
    def own(self) -> Mapping[str, Registration]:
        """Ours, by trunk."""
        return self._own

    def bindings(self, user: str) -> Sequence[events.Binding]:
        """The phones of a user that can be called, the preferred ones first."""
        return self._phones[user][1] if user in self._phones else ()

    def phones(self, user: str) -> list[Phone]:
        """The same, to be shown."""
        at, bindings = self._phones.get(user, (self._clock.now(), ()))
        return [
            Phone(
                uri=binding.uri,
                q=binding.q,
                source=_host_port(binding.source),
                transport=binding.transport,
                user_agent=binding.user_agent or None,
                expires_at=at + timedelta(seconds=binding.expires),
            )
            for binding in bindings
        ]

    def told(self, event: events.Registration | events.Bindings) -> None:
        """Take what the engine says."""
        if isinstance(event, events.Bindings):
            self._bound(event)
        else:
            self._registered(event)

    def _bound(self, event: events.Bindings) -> None:
        if event.bindings:
            self._phones[event.user] = (self._clock.now(), event.bindings)
        else:
            self._phones.pop(event.user, None)
        log.info("phones of a user are registered", user=event.user, phones=len(event.bindings))

    def _registered(self, event: events.Registration) -> None:
        if event.state == "gone":
            self._own.pop(event.trunk, None)
            log.info("trunk is registered no more", trunk=event.trunk)
            return
        self._own[event.trunk] = Registration(
            trunk=event.trunk,
            state=event.state,
            registrar=None if event.registrar is None else _host_port(event.registrar),
            expires=event.expires,
            status=event.status,
            reason=event.reason or None,
            retry=event.retry,
            changed_at=self._clock.now(),
        )
        if event.state == "registered":
            log.info("trunk is registered", trunk=event.trunk, expires=event.expires)
        else:
            log.warning(
                "trunk cannot be registered",
                trunk=event.trunk,
                status=event.status,
                reason=event.reason,
                retry=event.retry,
            )


def _host_port(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
