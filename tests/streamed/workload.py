"""A small workload whose values leave their windows within seconds; for tests of the stream.

Its history are the rows of the Parquet file that the environment names in ``STREAMED_HISTORY``, if any.
"""

from __future__ import annotations

import os
from datetime import timedelta

import polars as pl

from tidegate.features.asof import AsofView
from tidegate.features.windows import Events, Latest, Trailing
from tidegate.validate.contract import Column, Contract, Repair, TableContract
from tidegate.workload import Feature, Workload

SCHEMA = {"id": pl.Int64, "event_time": pl.Datetime("us", "UTC"), "key": pl.String, "value": pl.Int64}
HOUR = timedelta(hours=1)
WINDOW = timedelta(seconds=8)


class History:
    def arrivals(self, until):
        path = os.environ.get("STREAMED_HISTORY")
        rows = pl.read_parquet(path) if path else pl.DataFrame(schema=SCHEMA)
        return {"spent": rows.filter(pl.col("event_time") <= until)}


def contract():
    columns = (
        Column("id", "integer", low=0),
        Column("event_time", "time"),
        Column("key", "text", nullable=True, pattern="[A-Z]+"),
        Column("value", "integer", nullable=True, low=-1000, high=1000),
    )
    upper = Repair("upper_case", "key", lambda: pl.col("key").str.to_uppercase())
    return Contract({"spent": TableContract(columns, key=("id",), repairs=(upper,))})


SPENT = Events("spent", {"value": pl.col("value"), "one": pl.lit(1)})
DEFINITIONS = (
    Latest(
        AsofView("latest", ("key",), ("last",), HOUR),
        (Events("spent", {"last": pl.col("value"), "id": pl.col("id")}),),
        tie=("id",),
    ),
    Trailing(
        AsofView("spending", ("key",), ("mean", "share"), HOUR),
        SPENT,
        WINDOW,
        {
            "mean": pl.when(pl.col("one") > 0).then(pl.col("value") / pl.col("one")),
            "share": pl.when(pl.col("all_one") > 0).then(pl.col("one") / pl.col("all_one")),
        },
        of_all=True,
    ),
    Trailing(
        AsofView("everybody", (), ("average",), HOUR),
        SPENT,
        WINDOW,
        {"average": pl.when(pl.col("one") > 0).then(pl.col("value") / pl.col("one"))},
    ),
)

streamed = Workload(
    name="streamed",
    key="id",
    source=History(),
    contract=contract,
    definitions=lambda: DEFINITIONS,
    entities=lambda tables, until: tables["spent"],
    features=(Feature("last", "numeric"),),
    feature_service="streamed",
    feature_repo="streamed_repo",
    streams=("spent",),
)
