"""The flights with a source gone wrong: carriers nobody knows. A workload of the tests, imported by name."""

from dataclasses import replace

import polars as pl

from flights.workload import flight_delay as good


class WrongSource:
    """Every carrier is unknown from February on."""

    def arrivals(self, until):
        """See `tidegate.workload.Source`."""
        wrong = pl.when(pl.col("event_time").dt.month() > 1).then(pl.lit("??")).otherwise(pl.col("carrier"))
        tables = good.source.arrivals(until)
        return {**tables, "flights": tables["flights"].with_columns(carrier=wrong)}


flight_delay = replace(good, source=WrongSource())
