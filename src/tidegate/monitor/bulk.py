"""`LabelJoin`'s rules as SQL over Parquet, for more rows than fit into memory. Does I/O (DuckDB, in one process).

One step takes what is carried over from the step before and what is new, and writes the rows that mature up to a
watermark and what is carried on. Nearly every row has one label and came once: those go by streaming through one hash
join of fixed-width keys. The others (repeated rows, several labels, labels of other metrics) are few, and are joined
by the whole rule. Two 64-bit hashes stand for a request id in the first way; the second compares the ids themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.errors import PlatformError, UserError

MEMORY = 1100 * 2**20
"""Bytes that DuckDB may use before it goes to disk; the process stays under 2 GB."""
THREADS = 2
"""More threads hold more rows at once, and the memory is what must not grow."""
ORDERED = 2_000_000
"""Up to so many rows a step's rows are written in order of (time, request id, version)."""
GROUP = 20_480
"""Rows in a group of a carried file: the next hour is read without the rest of the day."""

PREDICTION = {
    "request_id": "VARCHAR", "time": "DOUBLE", "wall": "DOUBLE", "version": "VARCHAR", "digest": "VARCHAR",
    "arm": "VARCHAR", "propensity": "DOUBLE", "release": "VARCHAR", "score": "DOUBLE", "error": "BOOLEAN",
    "latency_ms": "DOUBLE", "features": "VARCHAR",
}  # fmt: skip
"""Columns of a prediction; `features` is a JSON list, in the feature schema's order."""
LABEL = {
    "request_id": "VARCHAR", "time": "DOUBLE", "wall": "DOUBLE", "value": "DOUBLE", "outcome": "VARCHAR",
    "metric": "VARCHAR",
}  # fmt: skip
SETTLED = {
    "request_id": "VARCHAR", "time": "DOUBLE", "version": "VARCHAR", "outcome": "VARCHAR", "label": "DOUBLE",
}  # fmt: skip
"""What is carried of a matured row: enough to know its repeats and what comes late for it."""
_NEEDED = {"predictions": {"request_id", "time", "version", "score"}, "labels": {"request_id", "time", "value"}}
_OTHERWISE = {"wall": "0.0", "error": "false", "latency_ms": "0.0", "outcome": "'observed'"}
"""What a column counts as that a Parquet file does not have; every other one as null."""


@dataclass(frozen=True)
class Step:
    """One step: rows with time + `deadline` <= `until` mature; `since` is the watermark of the step before."""

    until: float
    since: float
    deadline: float
    keep: float

    @property
    def horizon(self) -> float:
        """Matured rows and labels before this time are forgotten."""
        return self.until - self.deadline - self.keep


@dataclass(frozen=True)
class Carried:
    """Parquet files that steps have left. Only `ahead` is written anew by each; the others are added to.

    open: rows seen, not matured in their step; those due since then are in `settled`.
    ahead: rows after the watermark, whose place an earlier repeat may still take.
    settled: matured rows, short. labels: those that may still count.
    """

    open: Sequence[Path] = ()
    ahead: Sequence[Path] = ()
    settled: Sequence[Path] = ()
    labels: Sequence[Path] = ()


@dataclass(frozen=True)
class Inputs:
    """Parquet files: new ones, those carried, and label files of them that end with this step."""

    predictions: Sequence[Path]
    labels: Sequence[Path]
    carried: Carried = Carried()
    expired: Sequence[Path] = ()


@dataclass(frozen=True)
class Outputs:
    """Where the matured rows go and what this step adds to each kind of carried file."""

    rows: Path
    open: Path
    ahead: Path
    settled: Path
    labels: Path


def join(step: Step, inputs: Inputs, outputs: Outputs, temporary: Path, memory: int = MEMORY) -> dict[str, int]:
    """Do one step and count it, by the names of `JoinCounts` (and `unknown`, `matured`, `open`).

    Raises PlatformError when the disk or the memory does not suffice, UserError for a file that is no such table.
    """
    import duckdb

    try:
        with duckdb.connect() as connection:
            _prepare(connection, temporary, memory)
            _views(connection, step, inputs)
            _near(connection, step, inputs)
            _sort_out(connection)
            counts = _count_new(connection, step)
            _write_rows(connection, step, outputs.rows)
            _write_carried(connection, step, inputs, outputs)
            return counts | _count_rows(connection, step, outputs)
    except (duckdb.OutOfMemoryException, duckdb.IOException, OSError) as error:
        raise PlatformError(f"label join in {temporary}: {error}") from None


def _prepare(connection: Any, temporary: Path, memory: int) -> None:
    settings = {
        "memory_limit": f"{memory // 2**20}MiB",
        "threads": THREADS,
        "temp_directory": str(temporary),
        "preserve_insertion_order": False,
        "enable_progress_bar": False,
    }
    for name, value in settings.items():
        connection.execute(f"SET {name} = '{value}'")


def _views(connection: Any, step: Step, inputs: Inputs) -> None:
    """`fresh_p`, `fresh_l`: new; `new_p`: with what was ahead; `open_p`, `old`: rows seen before, open and all."""
    carried = inputs.carried
    live = _after(step, step.since)
    _view(connection, "fresh_p", _table(connection, inputs.predictions, PREDICTION, "predictions"))
    _view(connection, "fresh_l", _table(connection, inputs.labels, LABEL, "labels"))
    _view(connection, "ahead", _table(connection, carried.ahead, PREDICTION))
    _view(connection, "new_p", "FROM ahead UNION ALL FROM fresh_p")
    _view(connection, "open_p", f"FROM ({_table(connection, carried.open, PREDICTION)}) WHERE {live}")
    _view(connection, "settled", _table(connection, carried.settled, SETTLED))
    short = ", ".join(f"NULL AS {name}" if name in ("outcome", "label") else name for name in SETTLED)
    _view(connection, "old", f"SELECT {short} FROM open_p UNION ALL FROM settled")  # noqa: S608


def _near(connection: Any, step: Step, inputs: Inputs) -> None:
    """`met`: old rows that what is new speaks of; `p` and `l`: the rows and labels of this step, with their hashes.

    Each row of `p` is new or due now, each label of `l` is new or of such a row: what a step costs follows them, but
    for one look at the ids that are carried.
    """
    asked = "SELECT hash(request_id) FROM new_p UNION ALL SELECT hash(request_id) FROM fresh_l"
    where = f"hash(request_id) IN ({asked})" if inputs.carried != Carried() else "false"
    connection.execute(f"CREATE TEMP TABLE met AS FROM old WHERE {where}")
    new = "SELECT * FROM new_p"
    if inputs.carried != Carried():
        new += " ANTI JOIN met USING (request_id, version)"
    keys = "hash(request_id) AS h, hash('#' || request_id) AS g"
    both = f"FROM open_p WHERE {_due(step)} UNION ALL ({new})"
    _view(connection, "p", f"SELECT *, {keys}, hash(request_id, version) AS k FROM ({both})")  # noqa: S608
    kept = _table(connection, inputs.carried.labels, LABEL)
    where = "hash(request_id) IN (SELECT h FROM p)" if inputs.carried.labels else "false"
    connection.execute(f"CREATE TEMP TABLE near_l AS FROM ({kept}) WHERE {where}")
    _view(connection, "l", f"SELECT *, {keys} FROM (FROM near_l UNION ALL FROM fresh_l)")  # noqa: S608


def _view(connection: Any, name: str, query: str) -> None:
    connection.execute(f"CREATE TEMP VIEW {name} AS {query}")


def _table(connection: Any, files: Sequence[Path], columns: dict[str, str], what: str = "") -> str:
    """A SELECT of files with the columns given; what a file does not have is null or as `_OTHERWISE` says."""
    if not files:
        return f"SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in columns.items())} WHERE false"
    listed = ", ".join(f"'{_quoted(path)}'" for path in files)
    source = f"read_parquet([{listed}], union_by_name = true)"
    has = {row[0] for row in connection.execute(f"DESCRIBE FROM {source}").fetchall()}
    if missing := sorted(_NEEDED.get(what, set()) - has):
        raise UserError(f"{what}: {files[0].parent}", f"no column {missing[0]}", f"columns {', '.join(columns)}")
    taken = [f"{_expression(name, has, what)}::{kind} AS {name}" for name, kind in columns.items()]
    where = " WHERE endpoint IS NULL" if "endpoint" in has and what == "predictions" else ""
    return f"SELECT {', '.join(taken)} FROM {source}{where}"  # noqa: S608


def _expression(name: str, has: set[str], what: str) -> str:
    if name not in has:
        return _OTHERWISE.get(name, "NULL")
    if (what, name) != ("labels", "request_id"):
        return name
    # monitor.rows.row_id: ID means the first row of request ID
    return (
        "CASE WHEN suffix(request_id, '/0') OR regexp_matches(request_id, '/[0-9]+$') "
        "THEN request_id ELSE request_id || '/0' END"
    )


def _sort_out(connection: Any) -> None:
    """`twice` and `special`: hashes of rows that came again and of ids with more than one label; `hard`: those rows."""
    for made in (
        "twice AS SELECT hash(request_id, version) AS k, count(*) AS n FROM p GROUP BY 1 HAVING n > 1",
        "special AS SELECT hash(request_id) AS h FROM l GROUP BY 1 HAVING count(*) > 1 OR count(metric) > 0",
        "hard AS SELECT * FROM p WHERE k IN (SELECT k FROM twice) OR h IN (FROM special) QUALIFY row_number() OVER ("
        "PARTITION BY request_id, version ORDER BY time, wall, error, latency_ms, coalesce(score, -1)) = 1",
        "hard_l AS SELECT * FROM l WHERE h IN (SELECT h FROM hard)",
    ):
        connection.execute(f"CREATE TEMP TABLE {made}")
    _view(connection, "easy", "SELECT * FROM p WHERE k NOT IN (SELECT k FROM twice) AND h NOT IN (FROM special)")


def _count_new(connection: Any, step: Step) -> dict[str, int]:
    """Counts of what is new, and of new labels of rows that matured in an earlier step."""
    one = connection.execute(
        f"""SELECT (SELECT count(*) FROM fresh_p), (SELECT count(*) FROM fresh_l),
        (SELECT coalesce(sum(n), 0) FROM twice) - (SELECT count(*) FROM hard WHERE k IN (SELECT k FROM twice))
        + (SELECT count(*) FROM new_p SEMI JOIN met USING (request_id, version)),
        (SELECT count(*) FROM fresh_p WHERE time <= {_number(step.since)}),
        (SELECT count(*) FROM fresh_l WHERE hash(request_id) NOT IN (
          SELECT hash(request_id) FROM new_p UNION ALL SELECT hash(request_id) FROM met))"""  # noqa: S608
    ).fetchone()
    late = connection.execute(
        f"""SELECT count(*) FILTER (in_time), count(*) FILTER (NOT in_time AND outcome = 'missing'),
        count(*) FILTER (NOT in_time AND outcome <> 'missing') FROM (
          SELECT r.outcome, t.time <= r.time + {step.deadline!r} AS in_time FROM met r JOIN fresh_l t
          ON t.request_id = r.request_id WHERE r.outcome IS NOT NULL AND t.metric IS NULL
          AND NOT {_SAME.format("r")})"""  # noqa: S608
    ).fetchone()
    names = ("predictions", "labels", "repeated", "behind", "unknown")
    counts = {name: int(value) for name, value in zip(names, one, strict=True)}
    counts["behind"] += late[0]
    return counts | {"late": late[1], "corrected_late": late[2]}


_SAME = "coalesce({0}.outcome = t.outcome AND (t.value IS NULL OR {0}.label = t.value), false)"
"""Whether a label `t` says what its row has matured as."""


def _write_rows(connection: Any, step: Step, path: Path) -> None:
    """The rows that mature, each with its label as it stands then."""
    connection.execute(f"CREATE TEMP TABLE due AS SELECT * FROM hard WHERE {_due(step)}")  # noqa: S608
    for name, query in _hard(step):
        connection.execute(f"CREATE TEMP TABLE {name} AS {query}")
    columns = ", ".join(f"r.{name}" for name in PREDICTION)
    in_time = f"t.time <= r.time + {step.deadline!r}"
    easy = f"""SELECT {columns}, {_outcome(in_time)} AS outcome, CASE WHEN {in_time} THEN t.value END AS label,
        CASE WHEN {in_time} THEN t.time END AS label_time, NULL AS metrics, (t.time IS NOT NULL AND NOT {in_time})::INT
        AS late FROM (SELECT * FROM easy WHERE {_due(step)}) r LEFT JOIN (SELECT h, g, time, value,
        outcome = 'observed' AS observed FROM l WHERE h NOT IN (FROM special)) t ON t.h = r.h AND t.g = r.g"""  # noqa: S608
    hard = f"""SELECT {columns}, s.outcome, s.label, s.label_time, m.metrics, coalesce(n.late, 0) AS late FROM due r
        LEFT JOIN stands s USING (request_id, version) LEFT JOIN named m USING (request_id, version)
        LEFT JOIN lates n USING (request_id, version)"""  # noqa: S608
    # the labels are what the hash table is made of: they are narrow, and predictions with their features stream by
    connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    (rows,) = connection.execute(f"SELECT count(*) FROM p WHERE {_due(step)}").fetchone()  # noqa: S608
    order = " ORDER BY time, request_id, version" if rows <= ORDERED else ""
    connection.execute(f"COPY (({easy}) UNION ALL ({hard}){order}) TO '{_quoted(path)}' (COMPRESSION zstd)")
    connection.execute("RESET disabled_optimizers")


def _hard(step: Step) -> list[tuple[str, str]]:
    """Tables that lead from `due` to what each of its rows matures as (`standing` of the join, in SQL)."""
    rank = "time DESC, wall DESC, outcome DESC, coalesce(value, -1) DESC"
    one = "r.request_id, r.version"
    return [
        ("told", f"""SELECT {one}, t.* EXCLUDE (request_id, h, g), t.time <= r.time + {step.deadline!r} AS in_time
            FROM due r JOIN hard_l t ON t.request_id = r.request_id"""),  # noqa: S608
        ("standing", f"""SELECT * FROM told WHERE in_time QUALIFY row_number() OVER (
            PARTITION BY request_id, version, metric ORDER BY {rank}) = 1"""),  # noqa: S608
        ("stands", f"""SELECT {one}, {_outcome("t.time IS NOT NULL")} AS outcome, t.value AS label, t.time AS
            label_time FROM due r LEFT JOIN (SELECT *, outcome = 'observed' AS observed FROM standing
            WHERE metric IS NULL) t USING (request_id, version)"""),  # noqa: S608
        ("named", """SELECT request_id, version, map(list(metric ORDER BY metric), list(coalesce(value, 'nan'::DOUBLE)
            ORDER BY metric)) AS metrics FROM standing WHERE metric IS NOT NULL GROUP BY ALL"""),
        ("lates", f"""SELECT {one}, count(*)::INT AS late FROM told t JOIN stands r USING (request_id, version)
            WHERE NOT t.in_time AND t.metric IS NULL AND NOT {_SAME.format("r")} GROUP BY ALL"""),  # noqa: S608
    ]  # fmt: skip


def _outcome(in_time: str) -> str:
    """What a row matures as, by the one label `t` that it has or has not."""
    return f"""CASE WHEN NOT coalesce({in_time}, false) THEN 'missing'
        WHEN t.observed AND t.value IS NOT NULL THEN 'observed' ELSE 'cancelled' END"""


def _write_carried(connection: Any, step: Step, inputs: Inputs, outputs: Outputs) -> None:
    """What this step adds: open rows as they are, matured ones in short, and the labels that may still count."""
    columns, recent = ", ".join(PREDICTION), f"time >= {_number(step.horizon)}"
    ahead = f"time > {_number(step.until)}"
    for path, which in ((outputs.open, f"NOT {ahead} AND {_after(step, step.until)}"), (outputs.ahead, ahead)):
        queries = (f"SELECT {columns} FROM {name} WHERE {which}" for name in ("easy", "hard"))  # noqa: S608
        _copy(connection, " UNION ALL ".join(queries), path)
    _copy(connection, f"SELECT {', '.join(SETTLED)} FROM '{_quoted(outputs.rows)}' WHERE {recent}", outputs.settled)  # noqa: S608
    ours = (f"'{_quoted(path)}'" for path in (outputs.open, outputs.ahead, outputs.settled))
    known = " UNION ALL ".join(f"SELECT hash(request_id) FROM {name}" for name in (*ours, "met"))  # noqa: S608
    chosen = f"SELECT * FROM fresh_l WHERE {recent} OR hash(request_id) IN ({known})"  # noqa: S608
    if inputs.expired:
        expired = _table(connection, inputs.expired, LABEL)
        known += " UNION ALL SELECT hash(request_id) FROM old"
        chosen += f" UNION ALL SELECT * FROM ({expired}) WHERE hash(request_id) IN ({known})"  # noqa: S608
    _copy(connection, chosen, outputs.labels)


def _copy(connection: Any, query: str, path: Path) -> None:
    connection.execute(f"COPY ({query}) TO '{_quoted(path)}' (ROW_GROUP_SIZE {GROUP})")


def merge(parts: Sequence[Path], path: Path, since: float) -> None:
    """Write several files of one kind as one, in order of time, without rows before `since`."""
    import duckdb

    listed = ", ".join(f"'{_quoted(part)}'" for part in parts)
    with duckdb.connect() as connection:
        query = f"FROM read_parquet([{listed}]) WHERE time >= {_number(since)} ORDER BY time, request_id"
        _copy(connection, query, path)


def _count_rows(connection: Any, step: Step, outputs: Outputs) -> dict[str, int]:
    """Counts of the rows that were written, what came late for them, and of those still open."""
    found = connection.execute(
        f"""SELECT count(*), count(*) FILTER (outcome = 'observed'), count(*) FILTER (outcome = 'cancelled'),
        count(*) FILTER (outcome = 'missing'), coalesce(sum(late) FILTER (outcome = 'missing'), 0),
        coalesce(sum(late) FILTER (outcome <> 'missing'), 0),
        (SELECT count(*) FROM open_p WHERE {_after(step, step.until)}) + (SELECT count(*) FROM
        read_parquet(['{_quoted(outputs.open)}', '{_quoted(outputs.ahead)}'])) FROM '{_quoted(outputs.rows)}'"""  # noqa: S608
    ).fetchone()
    names = ("matured", "observed", "cancelled", "missing", "late_now", "corrected_now", "open")
    return {name: int(value) for name, value in zip(names, found, strict=True)}


def _due(step: Step) -> str:
    return f"time + {step.deadline!r} <= {_number(step.until)} AND time <= {_number(step.until - step.deadline + 1.0)}"


def _after(step: Step, watermark: float) -> str:
    """Not matured by then; the first condition is what a Parquet file's statistics can answer."""
    return f"time >= {_number(watermark - step.deadline - 1.0)} AND time + {step.deadline!r} > {_number(watermark)}"


def _number(value: float) -> str:
    return f"'{value!r}'::DOUBLE"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
