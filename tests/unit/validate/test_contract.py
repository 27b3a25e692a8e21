"""The contract's checks, row by row, and against pandera as a second opinion."""

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.validate.check import PART, reasons_of, schema_violations, table_failures, violations_of
from tidegate.validate.contract import Column, Repair, Rule, TableContract, fits, pandera_schema
from tidegate.validate.repair import CHANGED, repaired

TABLE = TableContract(
    columns=(
        Column("id", "text", pattern="[a-z][0-9]"),
        Column("size", "text", nullable=True, isin=("small", "large")),
        Column("count", "integer", low=0, high=10),
        Column("share", "number", nullable=True, low=0.0, high=1.0),
    ),
    key=("id",),
)
GOOD = {"id": ["a1", "a2"], "size": ["small", None], "count": [0, 10], "share": [0.0, None]}
SCHEMA = {"id": pl.String, "size": pl.String, "count": pl.Int64, "share": pl.Float64}


def frame(**columns):
    return pl.DataFrame({**GOOD, **columns}, schema=SCHEMA)


def row_violations(rows, table):
    """What the gate reports of one partition, and each row's reasons."""
    rows = rows.with_columns(pl.lit(0, pl.Int32).alias(PART))
    failures = table_failures(rows, table)
    return list(violations_of(rows, failures)), reasons_of(rows.height, failures)


def test_good_rows_pass():
    violations, reasons = row_violations(frame(), TABLE)
    assert violations == []
    assert reasons.to_list() == [None, None]


@pytest.mark.parametrize(
    ("column", "values", "check"),
    [
        ("id", ["a1", None], "null"),
        ("id", ["a1", "A2"], "pattern"),
        ("id", ["a1", "a22"], "pattern"),
        ("id", ["a1", "a1"], "unique"),
        ("size", ["small", "huge"], "value"),
        ("count", [0, 11], "range"),
        ("count", [0, -1], "range"),
        ("count", [0, None], "null"),
        ("share", [0.5, 1.1], "range"),
        ("share", [0.5, math.nan], "range"),
        ("share", [0.5, math.inf], "range"),
    ],
)
def test_a_bad_value_is_found_named_and_counted(column, values, check):
    violations, reasons = row_violations(frame(**{column: values}), TABLE)
    assert [(v.check, v.column, v.rows) for v in violations] == [(check, column, 1)]
    assert reasons.to_list() == [None, f"{check}({column})"]


def test_a_row_tells_all_its_reasons():
    _, reasons = row_violations(frame(count=[0, 11], size=["small", "huge"]), TABLE)
    assert reasons.to_list() == [None, "value(size), range(count)"]


def test_a_rule_looks_at_several_columns():
    rule = Rule("share_needs_count", ("count", "share"), lambda: (pl.col("share") == 0) | (pl.col("count") > 0))
    table = TableContract(TABLE.columns, TABLE.key, rules=(rule,))
    violations, _ = row_violations(frame(count=[0, 0], share=[0.5, 0.0]), table)
    assert [(v.check, v.column, v.rows, v.examples) for v in violations] == [
        ("share_needs_count", "count+share", 1, ([0, 0.5],))
    ]


def test_schema_changes_are_named():
    schema = {"id": pl.String(), "size": pl.String(), "count": pl.Float64(), "colour": pl.String()}
    found = [(v.check, v.column, v.rows) for v in schema_violations(schema, 7, TABLE)]
    assert found == [("missing_column", "share", 7), ("new_column", "colour", 7), ("type", "count", 7)]


@pytest.mark.parametrize(
    ("kind", "dtype", "answer"),
    [
        ("text", pl.String(), True),
        ("text", pl.Int8(), False),
        ("integer", pl.UInt16(), True),
        ("integer", pl.Float32(), False),
        ("number", pl.Int32(), True),
        ("number", pl.Boolean(), False),
        ("time", pl.Datetime("ms", "UTC"), True),
        ("time", pl.Datetime("us"), False),
        ("time", pl.Date(), False),
    ],
)
def test_kinds_and_types(kind, dtype, answer):
    assert fits(kind, dtype) is answer


def test_a_repair_is_counted_by_value():
    trim = Repair("trimmed", "id", lambda: pl.col("id").str.strip_chars().str.to_lowercase())
    table = TableContract(TABLE.columns, TABLE.key, repairs=(trim,))
    rows, counts = repaired(frame(id=[" A1 ", "a2"]), table)
    assert counts == {"trimmed": 1}
    assert rows["id"].to_list() == ["a1", "a2"]
    assert rows[CHANGED].to_list() == [True, False]


def test_no_rows_break_nothing():
    assert row_violations(frame().clear(), TABLE)[0] == []


VALUES = {
    "id": st.sampled_from(["a1", "a2", "b3", "zz", None]),
    "size": st.sampled_from(["small", "large", "huge", None]),
    "count": st.sampled_from([-1, 0, 5, 10, 11, None]),
    "share": st.sampled_from([-0.1, 0.0, 0.5, 1.0, 1.5, None]),
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=6))
def test_pandera_agrees(rows):
    from pandera.errors import SchemaErrors

    table = pl.DataFrame(rows, schema=SCHEMA)
    ours = bool(row_violations(table, TABLE)[0])
    try:
        pandera_schema(TABLE).validate(table, lazy=True)
    except SchemaErrors:
        assert ours
    else:
        assert not ours
