"""The gate's counts against a reading of the contract row by row, value by value, in plain Python."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.validate import check
from tidegate.validate.check import PART, good_rows, reasons_of, reference_failures, table_failures
from tidegate.validate.contract import Column, Monotone, Reference, Repair, Rule, TableContract, not_before
from tidegate.validate.repair import CHANGED, repaired

START = datetime(2020, 1, 1, tzinfo=UTC)
UNTIL = START + timedelta(hours=6)
TIME = pl.Datetime("us", "UTC")
TABLE = TableContract(
    columns=(
        Column("id", "text", pattern="[a-z][0-9]"),
        Column("event_time", "time", low=START, high=datetime(2050, 1, 1, tzinfo=UTC)),
        Column("asked", "time", nullable=True),
        Column("size", "text", nullable=True, isin=("small", "large")),
        Column("meter", "integer", nullable=True, low=0, high=10),
        Column("share", "number", nullable=True, low=0.0, high=1.0),
    ),
    key=("id",),
    rules=(
        not_before("after", "event_time", "asked", timedelta(hours=1)),
        Rule("share_needs_meter", ("meter", "share"), lambda: (pl.col("share") == 0) | (pl.col("meter") > 0)),
    ),
    repairs=(Repair("lower", "id", lambda: pl.col("id").str.to_lowercase()),),
    monotone=(Monotone("meter", ("size",)),),
    references=(Reference("size", "sizes", "name"),),
)
SCHEMA = {"id": pl.String, "event_time": TIME, "asked": TIME, "size": pl.String, "meter": pl.Int64, "share": pl.Float64}
hours = st.integers(-3, 8).map(lambda h: START + timedelta(hours=h))
ROW = {
    "id": st.sampled_from(["a1", "A1", "a2", "b3", "c4", "zz", None]),
    "event_time": st.one_of(hours, st.sampled_from([START.replace(year=1970), START.replace(year=2100)])),
    "asked": st.one_of(hours, st.none()),
    "size": st.sampled_from(["small", "large", "huge", None]),
    "meter": st.sampled_from([-1, 0, 3, 7, 10, 11, 10**12, None]),
    "share": st.sampled_from([-0.1, 0.0, 0.5, 1.0, float("nan"), float("inf"), None]),
}  # fmt: skip
rows_of = st.lists(st.fixed_dictionaries(ROW), max_size=12)


def naive_row(row):
    """The names of the checks that a single row fails, in the contract's order."""
    failed = []
    text, finite = row["id"], row["share"] is not None and abs(row["share"]) <= 1e300
    if text is None:
        failed.append("null(id)")
    elif not (len(text) == 2 and text[0] in "abcdefghijklmnopqrstuvwxyz" and text[1] in "0123456789"):
        failed.append("pattern(id)")
    if not START <= row["event_time"] <= datetime(2050, 1, 1, tzinfo=UTC):
        failed.append("range(event_time)")
    if row["size"] not in ("small", "large", None):
        failed.append("value(size)")
    if row["meter"] is not None and not 0 <= row["meter"] <= 10:
        failed.append("range(meter)")
    if row["share"] is not None and not (finite and 0 <= row["share"] <= 1):
        failed.append("range(share)")
    if row["asked"] is not None and row["event_time"] < row["asked"] - timedelta(hours=1):
        failed.append("after(event_time+asked)")
    if breaks_rule(row["share"], row["meter"]):
        failed.append("share_needs_meter(meter+share)")
    if row["event_time"] > UNTIL:
        failed.append("not_yet(event_time)")
    return failed


def breaks_rule(share, meter):
    """`share == 0 or meter > 0` is false; with a null it is false only where the other side is."""
    left = None if share is None else share == 0
    right = None if meter is None else meter > 0
    return left is False and right is False


def naive_table(rows, known):
    """Reasons by row: each row by itself, then keys, then the order of time, then references."""
    reasons = [naive_row(row) for row in rows]
    seen = set()
    for row, told in zip(rows, reasons, strict=True):
        if not told:
            told += ["unique(id)"] if row["id"] in seen else []
            seen.add(row["id"])
    good = [i for i, told in enumerate(reasons) if not told]
    last = {}
    for i in sorted(good, key=lambda i: rows[i]["event_time"]):
        meter, size = rows[i]["meter"], rows[i]["size"]
        if meter is not None:
            if size in last and meter < last[size]:
                reasons[i].append("monotone(meter+size)")
            last[size] = meter
    for row, told in zip(rows, reasons, strict=True):
        if not told and row["size"] is not None and row["size"] not in known:
            told.append("reference(size)")
    return reasons


@settings(max_examples=300, deadline=None)
@given(rows_of, st.sets(st.sampled_from(["small", "large", "huge"])), st.integers(0, 3))
def test_every_count_and_every_reason_is_that_of_the_plain_reading(rows, known, parts):
    table = pl.DataFrame(rows, schema=SCHEMA).with_columns((pl.int_range(pl.len()) % (parts + 1)).alias(PART))
    fixed, counts = repaired(table, TABLE)
    lowered = [{**row, "id": row["id"] and row["id"].lower()} for row in rows]
    assert counts == {"lower": sum(a["id"] != b["id"] for a, b in zip(rows, lowered, strict=True))}
    assert fixed[CHANGED].sum() == counts["lower"]
    failures = table_failures(fixed, TABLE, UNTIL)
    sizes = pl.DataFrame({"name": sorted(known)}, schema={"name": pl.String})
    failures += reference_failures(fixed, good_rows(fixed.height, failures), TABLE, {"sizes": sizes})
    expected = naive_table(lowered, known)
    told = reasons_of(fixed.height, failures).to_list()
    assert [reason.split(", ") if reason else [] for reason in told] == expected
    found = {f"{f.check}({f.column})": int(f.bad.sum()) for f in failures}
    assert found == Counter(reason for reasons in expected for reason in reasons)


WIDE = TableContract(
    columns=(
        Column("id", "integer"),
        *(Column(name, "integer", nullable=True) for name in ("a", "b")),
        Column("c", "number", nullable=True),
        Column("d", "integer", nullable=True, constant=True),
        Column("e", "integer", nullable=True, same_as="a"),
    ),
    key=("id",),
)
small = st.sampled_from([0, 1, None])


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda parts: st.lists(
            st.tuples(st.integers(0, parts - 1), st.fixed_dictionaries({n: small for n in "abcde"})), max_size=14
        )
    )
)
def test_constant_and_equal_columns_are_those_of_the_plain_reading(found):
    rows = [{"id": i, PART: part, **row} for i, (part, row) in enumerate(found)]
    schema = {"id": pl.Int64, PART: pl.Int32, **dict.fromkeys("abde", pl.Int64), "c": pl.Float64}
    least, check.LEAST = check.LEAST, 3
    try:
        failures = check.column_failures(pl.DataFrame(rows, schema=schema), WIDE)
    finally:
        check.LEAST = least
    expected = {}
    for part in {row[PART] for row in rows}:
        inside = [row for row in rows if row[PART] == part]
        if len(inside) >= 3:
            for name in naive_columns(inside):
                expected[name] = expected.get(name, 0) + len(inside)
    assert {(f.check, f.column): int(f.bad.sum()) for f in failures} == expected


def naive_columns(rows):
    """Constant columns but d, and equal pairs of others but a and e."""
    constant = {name for name in ("id", *"abcde") if len({row[name] for row in rows}) == 1}
    found = [("constant", name) for name in constant - {"d"}]
    for i, a in enumerate("abcde"):
        for b in "abcde"[i + 1 :]:
            if {a, b} & constant or (a, b) == ("a", "e"):
                continue
            if all(row[a] == row[b] for row in rows):
                found.append(("duplicate_column", f"{a}+{b}"))
    return found
