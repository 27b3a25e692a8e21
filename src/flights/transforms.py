"""Features that are worked out at request time: one function, called by the Feast on-demand view and by the traffic.

Arithmetic is in float64 and the outcome is float32, so that both callers get the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

DERIVED = ("hour_sin", "hour_cos", "wind_chill")
INPUTS = ("hour", "temp", "wind_speed")
_ANGLE = 2 * np.pi * np.arange(24) / 24
_SIN, _COS = np.sin(_ANGLE).round(12), np.cos(_ANGLE).round(12)


def derived(
    hour: NDArray[np.floating], temp: NDArray[np.floating], wind_speed: NDArray[np.floating]
) -> dict[str, NDArray[np.float32]]:
    """The on-demand features, each [N] float32; NaN in, NaN out.

    `hour`: local hour of the scheduled departure, 0 to 23; `temp`: Fahrenheit; `wind_speed`: miles an hour.
    Wind chill is the US National Weather Service's formula of 2001, at or below 50 F and above 3 mph; elsewhere it is
    the temperature.
    """
    known = np.nan_to_num(np.asarray(hour, dtype=np.float64)).astype(np.int64) % 24
    missing = np.isnan(hour)
    heat, wind = np.asarray(temp, dtype=np.float64), np.asarray(wind_speed, dtype=np.float64)
    power = np.maximum(np.nan_to_num(wind), 0.0) ** 0.16
    chill = 35.74 + 0.6215 * heat - 35.75 * power + 0.4275 * heat * power
    felt = np.where((heat <= 50) & (wind > 3), chill, heat)
    return {
        "hour_sin": np.where(missing, np.nan, _SIN[known]).astype(np.float32),
        "hour_cos": np.where(missing, np.nan, _COS[known]).astype(np.float32),
        "wind_chill": felt.astype(np.float32),
    }


def derive(rows: pl.DataFrame) -> pl.DataFrame:
    """Joined rows with the on-demand features as further Float32 columns; a missing value is null."""
    import polars as pl

    inputs = [rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in INPUTS]
    columns = [pl.Series(name, values).fill_nan(None) for name, values in derived(*inputs).items()]
    return rows.with_columns(columns)
