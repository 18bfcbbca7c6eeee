"""Metrics that nobody counts twice: the engine and the store keep their own numbers, read when Prometheus
asks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from telephony_gateway.calls.ports import EngineStats, Target
from telephony_gateway.calls.registrations import Registrations

log = structlog.get_logger(__name__)


class WriterStats(Protocol):
    """What the store's write queue counts."""

    @property
    def written(self) -> int: ...  # noqa: D102
    @property
    def batches(self) -> int: ...  # noqa: D102
    @property
    def retries(self) -> int: ...  # noqa: D102
    @property
    def refused(self) -> int: ...  # noqa: D102
    @property
    def batch_seconds(self) -> float: ...  # noqa: D102
    @property
    def last_batch_seconds(self) -> float: ...  # noqa: D102


class Writer(Protocol):
    """The store's write queue."""

    @property
    def stats(self) -> WriterStats: ...  # noqa: D102
    @property
    def depth(self) -> int: ...  # noqa: D102
    @property
    def away(self) -> bool: ...  # noqa: D102


class _OnScrape(Collector):
    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read
        self._failed = False

    def describe(self) -> Iterable[Metric]:
        """Nothing: without this, registering would ask for the numbers at once."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The numbers as they are now. A part that cannot tell its own does not hide those of the others."""
        try:
            found = list(self._read())
        except Exception as error:
            if not self._failed:
                log.warning("metrics not readable", error=repr(error))
            self._failed = True
            return
        self._failed = False
        yield from found


def register_engine(registry: CollectorRegistry, stats: Callable[[], EngineStats]) -> None:
    """Show the engine's counters as `engine_*`."""
    registry.register(_OnScrape(lambda: _engine_metrics(stats())))


def register_targets(registry: CollectorRegistry, targets: Callable[[], Sequence[Target]]) -> None:
    """Show the targets that failed or are probed as `trunk_target_up`."""
    registry.register(_OnScrape(lambda: _target_metrics(targets())))


def register_writer(registry: CollectorRegistry, writer: Writer) -> None:
    """Show the store's write queue as `store_*`."""
    registry.register(_OnScrape(lambda: _writer_metrics(writer)))


def register_registrations(registry: CollectorRegistry, registrations: Registrations) -> None:
    """Show which trunks are registered at their carriers."""
    registry.register(_OnScrape(lambda: [_registration_metric(registrations)]))


def _registration_metric(registrations: Registrations) -> Metric:
    up = GaugeMetricFamily(
        "registration_up", "1 while a trunk is registered at its carrier", labels=["trunk"]
    )
    for registration in registrations.own.values():
        up.add_metric([registration.trunk], int(registration.state == "registered"))
    return up


def _engine_metrics(stats: EngineStats) -> Iterator[Metric]:
    sip = CounterMetricFamily("engine_sip_messages", "SIP messages", labels=["direction"])
    sip.add_metric(["received"], stats.sip_messages_received)
    sip.add_metric(["sent"], stats.sip_messages_sent)
    rtp = CounterMetricFamily("engine_rtp_packets", "RTP and SRTP packets", labels=["direction"])
    rtp.add_metric(["received"], stats.rtp_packets_received)
    rtp.add_metric(["sent"], stats.rtp_packets_sent)
    drops = CounterMetricFamily(
        "engine_drops", "Input dropped, by plane and reason", labels=["plane", "reason"]
    )
    for name, count in stats.drops.items():
        plane, _, reason = name.partition(".")
        drops.add_metric([plane, reason], count)
    refused = CounterMetricFamily("engine_refused", "Refused or dropped at the door", labels=["rule"])
    for rule, count in stats.refused.items():
        refused.add_metric([rule], count)
    yield from (sip, rtp, drops, refused)
    yield _gauge("engine_rtp_ports_free", "RTP ports that a leg may take", stats.ports_free)
    yield _gauge("engine_rtp_ports_in_use", "RTP ports that legs hold", stats.ports_in_use)
    yield _counter("engine_sip_retransmissions", "SIP messages sent again", stats.sip_retransmissions)
    yield _counter("engine_calls_forwarded", "Calls sent on by a plain route, at once", stats.forwarded)
    yield _counter("engine_refused_overload", "INVITEs refused for overload", stats.refused_overload)
    yield _gauge("engine_sip_transactions", "SIP transactions that are open", stats.sip_transactions)
    yield _gauge("engine_sip_connections", "TCP and TLS connections that are open", stats.sip_connections)
    opened = CounterMetricFamily("engine_sip_connections_opened", "TCP and TLS connections made, both ways")
    opened.add_metric([], stats.sip_connections_opened)
    yield opened
    yield _gauge("engine_sip_dialogs", "SIP dialogs that are open", stats.sip_dialogs)
    yield _gauge("engine_legs", "Legs that are open", stats.legs)
    yield _gauge("engine_event_queue_depth", "Events that wait for a decision", stats.event_queue_depth)
    yield _gauge("engine_event_queue_capacity", "Events that may wait", stats.event_queue_capacity)


def _target_metrics(targets: Sequence[Target]) -> Iterator[Metric]:
    labels = ["trunk", "transport", "address"]
    up = GaugeMetricFamily("trunk_target_up", "0 while a target stands behind the others", labels=labels)
    for target in targets:
        up.add_metric([target.trunk, target.transport, target.address], int(target.state != "down"))
    yield up


def _writer_metrics(writer: Writer) -> Iterator[Metric]:
    stats = writer.stats
    yield _gauge("store_queue_depth", "Records that are not durable yet", writer.depth)
    yield _gauge("store_away", "1 while the database cannot be written", int(writer.away))
    yield _gauge("store_last_batch_seconds", "Time of the last write transaction", stats.last_batch_seconds)
    yield _counter("store_records", "Records written", stats.written)
    yield _counter("store_retries", "Write transactions that were tried again", stats.retries)
    yield _counter("store_refused_records", "Records the database refused for what they hold", stats.refused)
    yield SummaryMetricFamily(
        "store_batch_seconds", "Time of write transactions", stats.batches, stats.batch_seconds
    )


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
