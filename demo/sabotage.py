"""The flights workload with one fault: training sees the origin's delays in hours, serving gets them in minutes.

Such a model is wrong in production only: it was trained and evaluated on its own wrong unit, so the model gate, which
knows nothing but the offline rows, lets it pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flights import workload

if TYPE_CHECKING:
    import polars as pl

    from tidegate.workload import Tables


def _views(tables: Tables) -> dict[str, pl.DataFrame]:
    import polars as pl

    views = workload.flight_delay.views(tables)
    return {**views, "origin_delays": views["origin_delays"].with_columns(pl.col("origin_delay_3h") / 60)}


flight_delay = replace(workload.flight_delay, views=_views)
