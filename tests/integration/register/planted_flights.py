"""The flights with 100 planted values: texts and numbers in rows that keep the contract and in rows that do not."""

from dataclasses import replace
from datetime import UTC, datetime

import polars as pl

from flights.workload import flight_delay as good

TAILS = tuple(f"NQ{number:02d}ZX" for number in range(30))
PLACES = tuple(f"planted place {number:02d}" for number in range(20))
WINDS = tuple(round(11.234567 + number * 0.713131, 6) for number in range(30))
HEATS = tuple(round(71234.5678 + number * 13.1313, 4) for number in range(20))
"""No temperature: these rows go into quarantine."""
TEXTS, NUMBERS = (*TAILS, *PLACES), (*WINDS, *HEATS)
FROM = datetime(2013, 1, 10, tzinfo=UTC)


def planted(frame: pl.DataFrame, column: str, values: tuple, every: int, first: int) -> pl.DataFrame:
    """The frame with `values` in every so-manieth row from row `first` on, counted after `FROM`."""
    start = int((frame["event_time"] < FROM).sum()) + first
    rows = [start + number * every for number in range(len(values))]
    assert rows[-1] < frame.height
    column_of = frame[column].cast(pl.Float64) if isinstance(values[0], float) else frame[column]
    return frame.with_columns(column_of.scatter(rows, list(values)).alias(column))


class PlantedSource:
    """See above."""

    def arrivals(self, until):
        """See `tidegate.workload.Source`."""
        tables = good.source.arrivals(until)
        flights = planted(planted(tables["flights"], "tailnum", TAILS, 40, 0), "dest", PLACES, 40, 7)
        weather = planted(planted(tables["weather"], "wind_speed", WINDS, 9, 0), "temp", HEATS, 9, 4)
        return {**tables, "flights": flights, "weather": weather}


flight_delay = replace(good, source=PlantedSource())
