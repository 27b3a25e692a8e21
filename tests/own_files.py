"""Three files that are not of flights, each drawn with a stated seed; what `tidegate new` is tried on.

loans: a stream that drifts, made up after Agrawal's loan applications; customers come again, texts and gaps. tumours:
scikit-learn's breast cancer data, 569 rows drawn again and again with a little noise. digits: scikit-learn's digits,
1,797 rows drawn again; the question is whether the digit is 5 or more.
``python tests/own_files.py loans DIR`` writes one.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

START = datetime(2025, 3, 1, tzinfo=UTC)
SEED = 5


def times(days: int, per_day: int, draw: np.random.Generator) -> list[datetime]:
    """`per_day` moments of each day, in order."""
    seconds = np.sort(draw.integers(0, 86_400, (days, per_day)), axis=1) + 86_400 * np.arange(days)[:, None]
    return [START + timedelta(seconds=int(one)) for one in seconds.ravel()]


def loans(path: Path, days: int = 130, per_day: int = 100) -> Path:
    """CSV; the weight of the salary moves from day to day, so an older model falls behind."""
    draw, n = np.random.default_rng(SEED), days * per_day
    day = np.repeat(np.arange(days), per_day) / days
    salary, age = draw.uniform(20, 150, n), draw.integers(20, 80, n)
    education = draw.choice(["none", "school", "college", "doctor"], n, p=[0.2, 0.4, 0.3, 0.1])
    customer = draw.integers(0, 3000, n)
    debt = draw.exponential(20, n)
    odds = -1.0 + (2.0 - 3.0 * day) * (80 - salary) / 40 + 0.03 * (debt - 20) + 0.8 * (education == "none")
    odds = odds + 0.7 * np.sin(customer) - 0.02 * (age - 50)
    rows = pl.DataFrame(
        {
            "applied at": [time.isoformat() for time in times(days, per_day, draw)],
            "customer": [f"C{one:05d}" for one in customer],
            "salary": salary.round(1),
            "age": age,
            "education": education,
            "debt": [None if one < 2 else round(one, 2) for one in debt.tolist()],
            "note": [f"call {one}" for one in draw.integers(0, 10**9, n)],
            "branch": ["NA" if one == 6 else f"B{one}" for one in draw.integers(0, 7, n)],
            "defaulted": np.where(draw.uniform(size=n) < 1 / (1 + np.exp(-odds)), "yes", "no"),
        }
    )
    rows.write_csv(path)
    return path


def tumours(path: Path, days: int = 130, per_day: int = 100) -> Path:
    """CSV with names of several words; a row has an id of its own."""
    from sklearn.datasets import load_breast_cancer

    data, draw = load_breast_cancer(), np.random.default_rng(SEED)
    found = draw.integers(0, len(data.data), days * per_day)
    noise = 1 + 0.1 * draw.normal(size=(len(found), data.data.shape[1]))
    columns = dict(zip(data.feature_names.tolist(), (data.data[found] * noise).round(4).T, strict=True))
    rows = pl.DataFrame({"sample": np.arange(len(found)), "seen": times(days, per_day, draw), **columns})
    flips = draw.uniform(size=len(found)) < 0.05
    label = np.where((data.target[found] == 0) ^ flips, "malignant", "benign")
    rows.with_columns(diagnosis=pl.Series(label)).write_csv(path)
    return path


def digits(path: Path, days: int = 130, per_day: int = 100) -> Path:
    """Parquet; 64 whole numbers, some of which never change, and a label that is true or false."""
    from sklearn.datasets import load_digits

    data, draw = load_digits(), np.random.default_rng(SEED)
    found = draw.integers(0, len(data.data), days * per_day)
    pixels = {name: data.data[found, i].astype(np.int64) for i, name in enumerate(data.feature_names)}
    flips = draw.uniform(size=len(found)) < 0.05
    rows = pl.DataFrame({"scan": np.arange(len(found)), "taken": times(days, per_day, draw), **pixels})
    rows.with_columns(large=pl.Series((data.target[found] >= 5) ^ flips)).write_parquet(path)
    return path


ASKED = {
    "loans": (loans, "loans.csv", ("--label", "defaulted", "--time", "applied at", "--key", "customer")),
    "tumours": (tumours, "tumours.csv", ("--label", "diagnosis", "--time", "seen", "--key", "sample")),
    "digits": (digits, "digits.parquet", ("--label", "large", "--time", "taken", "--key", "scan")),
}
"""By workload: what makes its file, the file's name, the options of `tidegate new`."""

if __name__ == "__main__":
    wanted, folder = sys.argv[1:]
    make, name, _ = ASKED[wanted]
    print(make(Path(folder) / name))
