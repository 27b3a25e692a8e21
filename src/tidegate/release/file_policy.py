"""The policy file of `tidegate judge`: the Model file's `judge` block, flat, and what a file of evidence needs beside.

Shares may be written 0.005 or 0.5%, spans 24h or in seconds, times as ISO 8601 or in seconds since the epoch.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from tidegate.errors import UserError
from tidegate.release.policy import INTERLEAVE, JudgePolicy, Metric
from tidegate.spec import BusinessMetric, Strict, describe, parse_share, parse_span, read_yaml

Number = (int, float)
COLUMNS = (
    "time", "unit", "arm", "propensity", "weights", "request_id", "loss", "error", "errors", "latency", "latency_ms",
)  # fmt: skip
"""Names that a business metric cannot have: columns and checks of their own."""


def _share(value: object) -> object:
    if isinstance(value, Number) and not isinstance(value, bool):
        return float(value)
    try:
        return parse_share(value)
    except ValueError:
        raise ValueError("a share, for example 0.005 or 0.5%") from None


def _seconds(value: object) -> object:
    if isinstance(value, Number) and not isinstance(value, bool):
        return float(value)
    span: Any = parse_span(value)
    return span.total_seconds()


def parse_time(value: object) -> object:
    """A time as seconds since the epoch; without a zone it is UTC. Raises ValueError on anything else."""
    if isinstance(value, Number) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError("a time, for example 2013-07-01T00:00:00Z or seconds since the epoch") from None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    raise ValueError("a time, for example 2013-07-01T00:00:00Z or seconds since the epoch")


FileShare = Annotated[float, BeforeValidator(_share)]
FileSeconds = Annotated[float, BeforeValidator(_seconds)]
FileTime = Annotated[float, BeforeValidator(parse_time)]


class FileMargin(Strict):
    margin: FileShare = Field(gt=0)


class FileLoss(Strict):
    metric: str = "loss"
    margin: FileShare = Field(0.005, gt=0)
    slices: tuple[str, ...] = ()
    """Columns of the file; the loss is guarded in each of their values."""


class FileLatency(Strict):
    slo: FileSeconds = Field(gt=0)
    margin: FileShare = Field(gt=0)


class FilePolicy(Strict):
    """What is judged is what is written; where none of loss, errors, latency, metrics is, loss and errors are."""

    alpha: FileShare = Field(0.05, gt=0, lt=0.5)
    loss: FileLoss | None = None
    errors: FileMargin | None = None
    latency: FileLatency | None = None
    metrics: tuple[BusinessMetric, ...] = ()
    """Columns of the file with values in [0, bound], null until they are there; lower is better."""
    credit: FileMargin = FileMargin(margin=0.01)
    """Of interleaving evidence alone."""
    arms: tuple[str, ...] = ("champion", "challenger")
    """In the order of the column `weights`; the champion is the one of that name, else the first."""
    label_deadline: FileSeconds = 0.0
    now: FileTime | None = None
    """Rows older than now - labelDeadline are matured; absent: the newest time of the file."""
    block: FileSeconds | None = None
    min_duration: FileSeconds | None = None
    unit: Literal["request", "sticky"] | None = None
    """Absent: inferred once from the whole file."""

    @property
    def champion(self) -> str:
        """The champion's arm."""
        return "champion" if "champion" in self.arms else self.arms[0]

    @property
    def challengers(self) -> tuple[str, ...]:
        """The other arms, in their order."""
        return tuple(arm for arm in self.arms if arm != self.champion)

    def judge_policy(self, place: str) -> JudgePolicy:
        """All metrics proved at the one place that the file is evidence of."""
        return JudgePolicy(
            alpha=self.alpha,
            metrics=self._metrics(place),
            places=(place,),
            label_deadline=self.label_deadline,
            challengers=len(self.challengers),
            block=self.block,
            min_duration=self.min_duration,
            slo_ms=self.latency.slo * 1000 if self.latency else None,
            slices=self.loss.slices if self.loss and place != INTERLEAVE else (),
        )

    def _metrics(self, place: str) -> tuple[Metric, ...]:
        if place == INTERLEAVE:
            return (Metric("credit", self.credit.margin, place, quality=True),)
        loss, errors = self.loss, self.errors
        if not (loss or errors or self.latency or self.metrics):
            loss, errors = FileLoss(), FileMargin(margin=0.005)
        found = [Metric("loss", loss.margin, place, quality=True)] if loss else []
        found += [Metric("errors", errors.margin, place, quality=False)] if errors else []
        found += [Metric("latency", self.latency.margin, place, quality=False)] if self.latency else []
        return (*found, *(Metric(one.name, one.margin, place, True, one.bound) for one in self.metrics))


def load_file_policy(path: str | Path) -> FilePolicy:
    """Read and validate a policy file; UserError names the field, what it got and what it takes."""
    document = read_yaml(Path(path))
    if not isinstance(document, dict):
        raise UserError(str(path), type(document).__name__, "a mapping with alpha, loss, errors, latency, ...")
    try:
        found = FilePolicy.model_validate({name: value for name, value in document.items() if value is not None})
    except ValidationError as error:
        raise describe(error, str(path)) from None
    if len(found.arms) < 2 or len(set(found.arms)) != len(found.arms):
        raise UserError(f"{path}: arms", list(found.arms), "two or more names, each once")
    names = [metric.name for metric in found.metrics]
    if len({*names, *COLUMNS}) != len(names) + len(COLUMNS):
        raise UserError(f"{path}: metrics", names, "names of columns of their own, each once")
    return found
