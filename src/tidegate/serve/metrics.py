"""Hot-path metrics under BentoML's names, as Prometheus text."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds; prometheus_client's defaults, which BentoML takes too. The last bucket is +Inf."""

TOTAL, DURATION = "bentoml_service_request_total", "bentoml_service_request_duration_seconds"
IN_FLIGHT = "tidegate_requests_in_flight"
HELP = {
    TOTAL: ("counter", "Total number of HTTP requests"),
    DURATION: ("histogram", "API HTTP request duration in seconds"),
    IN_FLIGHT: ("gauge", "Requests that are not answered yet, without the one that reads this"),
    "tidegate_prediction_log_rows_total": ("counter", "Rows taken by the prediction log"),
    "tidegate_prediction_log_dropped_total": ("counter", "Rows that the disk did not take"),
    "tidegate_online_failures_total": ("counter", "Feature views that could not be read and counted as null"),
}


@dataclass
class _Series:
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))


@dataclass
class Metrics:
    """Counts by (endpoint, status); `service` and `version` are labels."""

    service: str
    version: str
    counts: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)
    """Rows logged, rows dropped and views not read so far."""
    in_flight: int = 0
    """Requests that are being answered, the one that asks for the text included."""
    _series: dict[tuple[str, int], _Series] = field(default_factory=dict)

    def observe(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one answer."""
        series = self._series.get((endpoint, status))
        if series is None:
            series = self._series[endpoint, status] = _Series()
        series.seconds += seconds
        series.buckets[bisect_left(BUCKETS, seconds)] += 1

    def text(self, others: str = "") -> str:
        """Our families, put into `others` (BentoML's own text), so that each family stands once."""
        families = dict(self._families())
        lines = [line for line in others.splitlines() if not self._is_ours(line)]
        for name, samples in families.items():
            kind, meaning = HELP[name]
            title = f"# TYPE {name} {kind}"
            if title in lines:
                place = lines.index(title) + 1
                lines[place:place] = samples
            else:
                lines += [f"# HELP {name} {meaning}", title, *samples]
        return "\n".join(lines) + "\n"

    def _is_ours(self, line: str) -> bool:
        """A sample that BentoML started at 0 for an endpoint that is answered here."""
        return line.startswith((TOTAL, DURATION)) and any(f'endpoint="{name}"' in line for name, _ in self._series)

    def _families(self) -> Iterator[tuple[str, list[str]]]:
        yield TOTAL, [f"{TOTAL}{{{self._labels(*key)}}} {sum(one.buckets)}" for key, one in self._series.items()]
        yield DURATION, [line for key, one in self._series.items() for line in self._histogram(self._labels(*key), one)]
        for name, value in zip(list(HELP)[2:], (max(self.in_flight - 1, 0), *self.counts()), strict=True):
            yield name, [f'{name}{{service_name="{self.service}",service_version="{self.version}"}} {value}']

    def _labels(self, endpoint: str, status: int) -> str:
        return (
            f'endpoint="{endpoint}",service_name="{self.service}",service_version="{self.version}",'
            f'http_response_code="{status}",runner_name="{self.service}"'
        )

    def _histogram(self, labels: str, series: _Series) -> Iterator[str]:
        seen = 0
        for limit, count in zip((*map(str, BUCKETS), "+Inf"), series.buckets, strict=True):
            seen += count
            yield f'{DURATION}_bucket{{{labels},le="{limit}"}} {seen}'
        yield f"{DURATION}_count{{{labels}}} {seen}"
        yield f"{DURATION}_sum{{{labels}}} {series.seconds!r}"
