"""The four kinds of output: where each is, and what a reader finds in it; a service that is waited for."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import polars as pl
import sqlalchemy as sa

KINDS = ("folder", "csv", "sqlite", "postgresql")


def place_of(kind: str, folder: Path, postgresql: str) -> str:
    """Another table for every test folder: the server is one."""
    return {
        "folder": str(folder / "out"),
        "csv": str(folder / "out.csv"),
        "sqlite": f"sqlite:///{folder}/out.db#predictions",
        "postgresql": f"{postgresql}#p_{abs(hash(str(folder)))}",
    }[kind]


def read(place: str) -> pl.DataFrame:
    """flight_id, score, model of every row, by flight_id."""
    url, _, table = place.partition("#")
    columns = ["flight_id", "score", "model"]
    if table:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            rows = connection.execute(sa.text(f"SELECT {', '.join(columns)} FROM {table}")).all()  # noqa: S608
        found = pl.DataFrame([tuple(row) for row in rows], columns, orient="row")
    elif place.endswith(".csv"):
        found = pl.read_csv(place)
    else:
        found = pl.read_parquet(f"{place}/*.parquet")
    return found.select(columns).sort("flight_id")


def ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("not ready")
