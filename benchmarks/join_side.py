"""One side of the join benchmark in a process of its own: ``python -m benchmarks.join_side SIDE FOLDER ROWS REPEATS``.

FOLDER holds ``entities.parquet``, ``data/views/<view>.parquet`` and a Feast repo for each store. Prints one JSON
document: seconds of the imports, of opening the store, of each join from the entity file to an Arrow table and to a
pandas frame, the most memory that the joins to Arrow took, and a checksum of the answer.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

VIEWS = ("weather", "origin_delays", "aircraft")
Answer = Any
"""A pyarrow.Table, or a pandas.DataFrame when asked for one."""
Join = Callable[[bool], Answer]
"""Takes whether the answer is to be a pandas frame."""


def polars_side(folder: Path, rows: int) -> Join:
    """What a person writes who needs nothing but this join: scan, join_asof three times, collect."""
    import polars as pl

    from flights.views import DEFINITIONS

    def join(frame: bool) -> Answer:
        asked = pl.scan_parquet(folder / "entities.parquet").head(rows)
        for view in (one for one in DEFINITIONS if one.name in VIEWS):
            table = pl.scan_parquet(folder / "data/views" / view.name / "batch.parquet")
            wanted = table.select(*view.keys, view.timestamp, *view.features)
            asked = asked.join_asof(
                wanted, on=view.timestamp, by=list(view.keys), tolerance=view.ttl, check_sortedness=False
            )
        answer = asked.collect()
        return answer.to_pandas() if frame else answer.to_arrow()

    return join


def feast_side(folder: Path, rows: int) -> Join:
    """Feast's own call; entity rows have to be a pandas frame."""
    import polars as pl

    from flights.views import DEFINITIONS
    from tidegate.features.feast_repo import quick_import

    with quick_import():
        from feast import FeatureStore

    refs = [f"{view.name}:{feature}" for view in DEFINITIONS if view.name in VIEWS for feature in view.features]
    store = FeatureStore(repo_path=str(folder))

    def join(frame: bool) -> Answer:
        asked = pl.read_parquet(folder.parent / "entities.parquet", n_rows=rows).to_pandas()
        job = store.get_historical_features(asked, refs)
        return job.to_df() if frame else job.to_arrow()

    return join


def forget(folder: Path) -> None:
    """Let the files leave the page cache, so that the first join reads them from disk."""
    for path in folder.rglob("*.parquet"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def checksum(answer: Answer) -> dict[str, Any]:
    """Rows, nulls and sum by feature: the same on every side."""
    import polars as pl

    table = pl.DataFrame(answer)
    numeric = sorted(name for name in table.columns if table[name].dtype.is_float())
    return {name: [table[name].null_count(), round(float(table[name].cast(pl.Float64).sum()), 1)] for name in numeric}


def memory(name: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at the most."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(name))
    return int(line.split()[1]) * 1024


def timed(join: Join, frame: bool) -> tuple[float, Answer]:
    """Seconds of one join, and its answer."""
    began = time.perf_counter()
    answer = join(frame)
    return time.perf_counter() - began, answer


def main(side: str, folder: Path, rows: int, repeats: int) -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    began = time.perf_counter()
    join = polars_side(folder, rows) if side == "polars" else feast_side(folder / side, rows)
    opened = time.perf_counter() - began
    forget(folder)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    seconds = []
    for _ in range(repeats):
        spent, answer = timed(join, frame=False)
        seconds.append(spent)
    peak = memory("VmHWM") - before
    frames = [timed(join, frame=True)[0] for _ in range(repeats - 1)]
    found = {
        "side": side,
        "rows": answer.num_rows,
        "opened": opened,
        "seconds": seconds,
        "frames": frames,
        "peak": peak,
    }
    print(json.dumps({**found, "sums": checksum(answer)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
