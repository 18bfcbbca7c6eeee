"""Counters and histograms of what happens in every call: plain integers of the event loop's thread.

Those of `prometheus_client` take a lock for each count and look a series up by its labels; here a call's
dozen counts cost less than one of theirs. What is seldom counted uses theirs.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class Tally(Collector):
    """A counter whose series are told apart by labels. Those of `series` are there from the start."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        registry: CollectorRegistry,
        series: Iterable[tuple[str, ...]] = (),
    ) -> None:
        self._about = name, text, labels
        self._counts: dict[tuple[str, ...], int] = dict.fromkeys(series, 0)
        registry.register(self)

    def add(self, series: tuple[str, ...], count: int = 1) -> None:
        """Count."""
        self._counts[series] = self._counts.get(series, 0) + count

    def collect(self) -> Iterator[Metric]:
        """The numbers as they are now."""
        name, text, labels = self._about
        family = CounterMetricFamily(name, text, labels=labels)
        for series, count in self._counts.items():
            family.add_metric(series, count)
        yield family


class Distribution(Collector):
    """A histogram whose series are told apart by labels. Those of `series` are there from the start."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        buckets: Sequence[float],
        registry: CollectorRegistry,
        series: Iterable[tuple[str, ...]] = (),
    ) -> None:
        self._about = name, text, labels
        self._bounds = tuple(buckets)
        self._names = [floatToGoString(bound) for bound in [*buckets, float("inf")]]  # type: ignore[no-untyped-call]
        self._rows: dict[tuple[str, ...], _Row] = {one: _Row(len(self._names)) for one in series}
        registry.register(self)

    def observe(self, series: tuple[str, ...], value: float) -> None:
        """Count a value in its bucket: the first whose bound it does not pass."""
        row = self._rows.get(series)
        if row is None:
            row = self._rows[series] = _Row(len(self._names))
        row.counts[bisect_left(self._bounds, value)] += 1
        row.total += value

    def collect(self) -> Iterator[Metric]:
        """The numbers as they are now; each bucket counts those below it too."""
        name, text, labels = self._about
        family = HistogramMetricFamily(name, text, labels=labels)
        for series, row in self._rows.items():
            sums, below = [], 0
            for bound, count in zip(self._names, row.counts, strict=True):
                below += count
                sums.append((bound, below))
            family.add_metric(series, sums, row.total)
        yield family


class _Row:
    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0
