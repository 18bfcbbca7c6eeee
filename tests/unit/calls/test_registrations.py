"""What the engine tells of registrations, as the API and the metrics show it."""

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from telephony_gateway.calls import events
from telephony_gateway.calls.plan import Goal
from telephony_gateway.calls.registrations import Registrations
from telephony_gateway.calls.routing import Routing
from telephony_gateway.telemetry.collectors import register_registrations

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class StillClock:
    """Always the same time."""

    def now(self) -> datetime:
        return NOW


def told(trunk: str, state: str, **values: object) -> events.Registration:
    return events.Registration(trunk=trunk, state=state, **values)  # type: ignore[arg-type]


def test_the_last_word_counts() -> None:
    registrations = Registrations(StillClock())
    registrations.told(told("a", "failed", status=403, reason="Forbidden", retry=45.0))
    found = registrations.own["a"]
    assert (found.state, found.status, found.reason, found.retry) == ("failed", 403, "Forbidden", 45.0)
    registrations.told(told("a", "registered", expires=600.0, registrar=("2001:db8::1", 5060)))
    found = registrations.own["a"]
    assert (found.state, found.registrar, found.reason) == ("registered", "[2001:db8::1]:5060", None)
    registrations.told(told("a", "gone"))
    assert not registrations.own


def test_the_metric_is_one_while_it_stands() -> None:
    registrations, registry = Registrations(StillClock()), CollectorRegistry()
    register_registrations(registry, registrations)
    registrations.told(told("a", "registered", expires=600.0))
    registrations.told(told("b", "failed", reason="No response"))
    values = [registry.get_sample_value("registration_up", {"trunk": trunk}) for trunk in "abc"]
    assert values == [1.0, 0.0, None]


def test_the_preferred_phones_of_a_user_ring_first_and_equal_ones_at_once() -> None:
    def phone(token: int, q: float) -> events.Binding:
        return events.Binding(
            token=token,
            uri=f"sip:alice@192.0.2.{token}",
            q=q,
            expires=60.0,
            source=("192.0.2.9", 5060),
            transport="udp",
            user_agent="",
        )

    registrations = Registrations(StillClock())
    routing = Routing.from_tables({}, development=False)
    routing.contacts = registrations.bindings
    assert routing.places(Goal(user="alice"), "ignored") == []
    registrations.told(events.Bindings(user="alice", bindings=[phone(1, 1.0), phone(2, 0.5), phone(3, 0.5)]))
    groups = routing.places(Goal(user="alice"), "ignored")
    assert [[place.next_hop for place in group] for group in groups] == [["flow:1"], ["flow:2", "flow:3"]]
    assert groups[0][0].uri == "sip:alice@192.0.2.1"
