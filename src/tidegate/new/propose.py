"""From a file's rows and the roles of its columns to a workload: contract, features, windows, settings. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from tidegate.errors import UserError
from tidegate.ingest.arrivals import by_partition
from tidegate.ingest.conform import conform, in_order
from tidegate.ingest.question_files import ASKED, Shape
from tidegate.new.columns import NOTHING, Seen, kind_of, names_of, seen
from tidegate.spec import format_span
from tidegate.validate.check import good_rows, violations_of
from tidegate.validate.contract import Column, TableContract, not_before
from tidegate.validate.step import check_table
from tidegate.workload import EVENT_TIME

if TYPE_CHECKING:
    import polars as pl

DAY = timedelta(days=1)
GATE_WINDOW = timedelta(days=14)
"""The newest labelled rows, on which the model gate compares; a run's default."""
LEAST = 1000
"""Labelled rows that a training needs."""
JOINED = 2
"""Categories that get a history of their own, at most."""
ROW = "row_id"
"""What tells a row where the key repeats."""
POSITIVE = ("1", "true", "yes", "y", "positive", "t")


@dataclass(frozen=True)
class Roles:
    """What the caller says of the file: its label, time and key columns; how long after a question its label comes."""

    label: str
    time: str
    key: str
    label_after: timedelta


@dataclass(frozen=True)
class Proposal:
    """A workload as values, which the templates write down.

    `key` names one row; `entity` is set instead where the key repeats, and a row is then told by it and its time.
    `positive`: the label's value that the score is the probability of. `histories`: join keys that get a window over
    what became of their rows; the window over all rows is always there.
    """

    name: str
    shape: Shape
    columns: tuple[Column, ...]
    label: str
    positive: str | int
    key: str
    entity: str
    others: tuple[Seen, ...]
    histories: tuple[str, ...]
    window: timedelta
    rows: int
    labelled: int
    share: float
    since: datetime
    until: datetime
    first_until: datetime
    increase: float

    @property
    def table(self) -> TableContract:
        """The contract that `contract.py` is written from."""
        after = not_before("known_after", EVENT_TIME, ASKED)
        return TableContract(self.columns, (self.entity, ASKED) if self.entity else (self.key,), rules=(after,))

    @property
    def features(self) -> tuple[Seen, ...]:
        """The columns that a model can use."""
        return tuple(one for one in self.others if not one.why_not)

    @property
    def per_day(self) -> float:
        """Labelled rows a day."""
        return self.labelled / max((self.until - self.since) / DAY, 1.0)

    @property
    def label_deadline(self) -> timedelta:
        """How long a label is waited for: twice what it usually takes."""
        return 2 * self.shape.label_after


def propose(name: str, raw: pl.DataFrame, roles: Roles, where: str, now: datetime) -> Proposal:
    """The proposal for the rows of a file; raises UserError, in one line, where they are no workload.

    `raw`: the rows as ingest reads them, CSV as text; `where` opens the errors.
    """
    given = {"--label": roles.label, "--time": roles.time, "--key": roles.key}
    for option, column in given.items():
        if column not in raw.columns:
            raise UserError(f"{where}: {option}", column, f"one of its columns: {', '.join(raw.columns)}")
    if len(set(given.values())) < len(given):
        raise UserError(f"{where}: --label, --time and --key", ", ".join(given.values()), "three columns")
    own = {roles.key: ROW} if roles.key == ROW else {}
    names = names_of(raw.columns, {roles.time: ASKED, roles.label: "label", **own})
    plain = _without_nothing(raw)
    rows = Shape(roles.time, roles.label_after, {raw: raw for raw in raw.columns}, _nothing(raw)).of(raw)
    _check_times(rows, plain, roles, where, now)
    labels, positive = _labels(rows[roles.label], where, roles.label, now)
    others = tuple(
        seen(raw, names[raw], rows[raw], now) for raw in raw.columns if raw not in (roles.label, roles.time, roles.key)
    )
    others = tuple(_but_the_label(one, rows[one.raw], rows[roles.label], now) for one in others)
    key = names[roles.key]
    entity = key if rows[roles.key].n_unique() < 0.99 * rows.height else ""
    if entity == ROW:
        raise UserError(f"{where}: --key", ROW, "another name where it repeats: rows get one of their own")
    histories = _histories(others, entity)
    kept = [roles.key, roles.label, *(one.raw for one in others if not one.why_not)]
    shape = Shape(roles.time, roles.label_after, {raw: names[raw] for raw in kept}, _nothing(raw.select(kept)))
    columns = (
        Column(key, "text"),
        Column(ASKED, "time"),
        Column(EVENT_TIME, "time"),
        labels,
        *(one.column for one in others if not one.why_not),
    )
    known = rows.filter(rows[roles.label].is_not_null())
    since, until = _span(rows[ASKED])
    made = Proposal(
        name=name,
        shape=shape,
        columns=columns,
        label=roles.label,
        positive=positive,
        key=key,
        entity=entity,
        others=others,
        histories=histories,
        window=28 * DAY if until - since >= 112 * DAY else 7 * DAY,
        rows=rows.height,
        labelled=known.height,
        share=int((known[roles.label].cast(str) == str(positive)).sum()) / max(known.height, 1),
        since=since,
        until=until,
        first_until=_first_until(known[ASKED], until, roles, where),
        increase=0.0,
    )
    return replace(_relaxed(made, raw, where, now), increase=_increase(made, known[ASKED]))


def _span(times: pl.Series) -> tuple[datetime, datetime]:
    first, last = times.min(), times.max()
    if not isinstance(first, datetime) or not isinstance(last, datetime):
        raise TypeError(times.dtype)
    return first, last


def _nothing(raw: pl.DataFrame) -> tuple[str, ...]:
    """The texts of `NOTHING` that stand in some column."""
    import polars.selectors as cs

    texts = raw.select(cs.string())
    return tuple(text for text in NOTHING if any((column == text).any() for column in texts.iter_columns()))


def _without_nothing(raw: pl.DataFrame) -> pl.DataFrame:
    import polars.selectors as cs

    return raw.with_columns(cs.string().replace(dict.fromkeys(NOTHING)))


def _check_times(rows: pl.DataFrame, raw: pl.DataFrame, roles: Roles, where: str, now: datetime) -> None:
    asked = rows[ASKED]
    bad = raw.filter(asked.is_null())
    if bad.height > 0.01 * rows.height or not rows.height:
        got = repr(bad[roles.time][0]) if rows.height else "no rows"
        takes = "a column of times: ISO 8601 text, a date or a Parquet timestamp; without a zone it is UTC"
        raise UserError(f"{where}: --time {roles.time}", got.strip("'"), takes)
    if (latest := asked.max()) > now:  # type: ignore[operator]
        raise UserError(f"{where}: --time {roles.time}", str(latest), "times that have passed")


def _labels(values: pl.Series, where: str, label: str, now: datetime) -> tuple[Column, str | int]:
    """The label's column, and which of its two values is 1."""
    kind = kind_of(values, now)
    found = sorted(values.drop_nulls().unique().cast(str))
    takes = "a label of two values, such as 0 and 1 or no and yes"
    if len(found) != 2 or kind == "time":
        shown = f"{len(found)} values, {', '.join(found[:3])}" + (" ..." if len(found) > 3 else "")
        raise UserError(f"{where}: --label {label}", shown, takes)
    nullable = values.null_count() > 0
    if kind in ("integer", "number"):
        numbers = sorted(float(value) for value in found)
        if numbers != [int(number) for number in numbers]:
            raise UserError(f"{where}: --label {label}", ", ".join(found), takes)
        low, high = (int(number) for number in numbers)
        return Column("label", "integer", nullable, low, high, constant=True), high
    positive = next((text for text in found if text.lower() in POSITIVE), found[1])
    return Column("label", "text", nullable, isin=tuple(found), constant=True), positive


def _but_the_label(one: Seen, values: pl.Series, label: pl.Series, now: datetime) -> Seen:
    """A column that is the label under another name is no feature."""
    if one.why_not or values.n_unique() > 3:
        return one
    same = values.cast(str).alias("a").to_frame().with_columns(label.cast(str).alias("b")).drop_nulls()
    if same["a"].n_unique() == same.n_unique() == same["b"].n_unique():
        return replace(one, why_not="the label under another name")
    return one


def _histories(others: tuple[Seen, ...], entity: str) -> tuple[str, ...]:
    found = [one for one in others if one.category and not one.why_not and len(one.values) > 2]
    most = sorted(found, key=lambda one: -len(one.values))[:JOINED]
    return (*((entity,) if entity else ()), *(one.name for one in most))


def _first_until(asked: pl.Series, until: datetime, roles: Roles, where: str) -> datetime:
    """Midnight by which a first version can be trained: 40 % of the rows, and enough of them older than the gate's."""
    gap = 4 * roles.label_after + GATE_WINDOW
    ordered = asked.sort()
    enough = max(LEAST * 1.1, 0.4 * len(ordered))
    if len(ordered) < LEAST or ordered[LEAST - 1] + gap > until:
        old = int((ordered <= until - gap).sum())
        takes = f"{LEAST} labelled rows or more that are older than {gap / DAY:g} days before its end"
        raise UserError(where, f"{old} of {len(ordered)}", takes)
    at: datetime = ordered[min(int(enough), len(ordered)) - 1] + gap
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
    return min(midnight, until.replace(microsecond=0) + roles.label_after)


def _increase(made: Proposal, asked: pl.Series) -> float:
    """New rows, as a share of those of the first run, with which a version can be trained on from it."""
    used = int((asked <= made.first_until - made.shape.label_after).sum())
    wanted = LEAST + (GATE_WINDOW + 2 * made.label_deadline) / DAY * made.per_day
    return max(0.1, math.ceil(110 * wanted / used) / 100)


def _relaxed(made: Proposal, raw: pl.DataFrame, where: str, now: datetime) -> Proposal:
    """The proposal with a contract that the data gate, asked here, finds kept; UserError where it does not."""
    read = conform(made.shape.of(raw), made.table, now)
    parts = [part for _, part in by_partition(in_order(read.rows, made.table), "month")]
    columns = {column.name: column for column in made.columns}
    for failure in check_table(made.name, parts, made.table).failures:
        if failure.check == "constant":
            columns[failure.column] = replace(columns[failure.column], constant=True)
        if failure.check == "duplicate_column":
            first, _, second = failure.column.partition("+")
            columns[second] = replace(columns[second], same_as=first)
    made = replace(made, columns=tuple(columns.values()))
    checked = check_table(made.name, parts, made.table)
    assert checked.rows is not None  # noqa: S101 - its columns are the contract's
    good = int(good_rows(checked.rows.height, checked.failures).sum())
    if raw.height - good > made.table.tolerated * raw.height:
        wrong = [*read.violations, *violations_of(checked.rows, checked.failures)]
        worst = max(wrong, key=lambda one: one.rows)
        got = f"{raw.height - good} of {raw.height} rows that fail, most by {worst.check} {worst.column}"
        takes = f"at most {made.table.tolerated:.0%}; rows are told apart by {' and '.join(made.table.key)}"
        raise UserError(where, got, takes)
    return made


def settings(made: Proposal) -> dict[str, Any]:
    """The Model file's numbers, by how much traffic there is: less evidence, wider margins."""
    few = made.per_day < 500
    margin = min(0.03, max(0.005, 0.5 / math.sqrt(7 * made.per_day)))
    gate = min(0.03, max(0.002, 1 / math.sqrt(14 * made.per_day)))
    return {
        "gate_margin": f"{gate:.3f}",
        "loss_margin": f"{margin:.3f}",
        "errors": "10%" if few else "1%",
        "slo": "500ms" if few else "100ms",
        "latency": "10%" if few else "2%",
        "weights": "[50%]" if few else "[5%, 25%, 50%]",
        "shadow": int(min(5000, max(300, 5 * made.per_day))),
        "canary": int(min(2500, max(100, made.per_day))),
        "deadline": format_span(made.label_deadline),
        "increase": f"{100 * made.increase:.0f}%",
    }


def lightgbm(made: Proposal) -> Mapping[str, float]:
    """Hints for training: smaller trees for fewer rows."""
    leaf = min(500, max(20, made.labelled // 200))
    return {"num_boost_round": 100, "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": leaf}
