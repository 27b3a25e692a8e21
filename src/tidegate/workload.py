"""What a workload is: the one object through which the platform knows a user's data, features and question.

A workload is a package of its own (``src/<name>/``) with one module-level `Workload`; a Model file names it as
``package.module:object``. The platform loads it by that name and never imports a workload itself.

Tables. A source gives tables by name; every table has a column `EVENT_TIME` (UTC datetime, microseconds): when the row
became known. Nothing may be derived from a row for an earlier time than that.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from tidegate.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from tidegate.features.asof import AsofView
    from tidegate.features.windows import Definition
    from tidegate.validate.contract import Contract

EVENT_TIME = "event_time"

Tables = Mapping[str, "pl.DataFrame"]


@dataclass(frozen=True)
class Feature:
    """One input of the model, in model order.

    `categories` of a category are fixed and written down: never taken from the rows of a batch, whose codes would
    shift silently when a batch has fewer of them. None for a numeric feature.
    """

    name: str
    kind: Literal["numeric", "category"]
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.kind == "category") != (self.categories is not None):
            raise ValueError(f"{self.name}: a category has categories, a numeric feature has none")


class Source(Protocol):
    """Where rows come from, by event time."""

    def arrivals(self, until: datetime) -> dict[str, pl.DataFrame]:
        """Every row of every table with `EVENT_TIME` at or before `until`, sorted by `EVENT_TIME`, then by key.

        Raises UserError when the source cannot be read, with what to do about it.
        """


@dataclass(frozen=True)
class Part:
    """A piece of a table that its source hands over at once: a file, a month of an SQL table.

    `name` tells it from every other piece of the source; `token` changes when its content does; `read` gives its rows.
    """

    table: str
    name: str
    token: str
    read: Callable[[], pl.DataFrame]


@runtime_checkable
class PartedSource(Source, Protocol):
    """A source that can say what is new: ingest reads a piece once for each token, and keeps its rows."""

    def parts(self) -> Iterable[Part]:
        """Every piece that there is now, without reading it."""


@dataclass(frozen=True)
class OnDemand:
    """Features worked out at request time from other inputs of the request.

    `compute`: the inputs, each [N] float64 (NaN where missing), in order -> feature name -> [N] float32. The Feast
    on-demand view calls the same function.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    compute: Callable[..., Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True)
class Fallback:
    """Where a feature's value comes from while its key is unseen: the first of `levels` that has one.

    `levels`: (name of the level, looked-up column), finest first; the first column is the feature itself. The
    level that was used is logged with the prediction when it is not the first.
    """

    feature: str
    levels: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Workload:
    """A question asked of data, as a value.

    Parameters
    ----------
    name: of the workload.
    key: column that identifies one unit asked about (one flight); unique in the entity rows.
    source: gives the tables.
    contract: builds the checks and repairs, by table.
    definitions: gives the feature views: how each is made of events and how it is joined (keys, time to live,
        features). The Feast repo reads the same ones.
    entities: (tables, until) -> one row a unit whose label is known at `until`: `key`, ``event_timestamp``
        (prediction time), ``label_timestamp``, ``outcome`` (observed or cancelled), ``label`` (0/1 or null), join
        keys, request-time inputs, slice columns.
    features: inputs of the model, in its order.
    feature_service: name in the Feast repo; feature_repo: its folder, relative to the repository.
    fallbacks: what stands in for an unseen key's features. derived: the on-demand features.
    streams: tables whose rows also come as events of a stream, by name.
    slices: slice name -> column of the entity rows, for gates by slice and protected group.
    families, params: hints for training, plain data: candidate families in order, and parameters by family.
    partition: what one file of a table holds: a month or a day of event time.
    """

    name: str
    key: str
    source: Source
    contract: Callable[[], Contract]
    definitions: Callable[[], tuple[Definition, ...]]
    entities: Callable[[Tables, datetime], pl.DataFrame]
    features: tuple[Feature, ...]
    feature_service: str
    feature_repo: str = "feature_repo"
    fallbacks: tuple[Fallback, ...] = ()
    derived: tuple[OnDemand, ...] = ()
    streams: tuple[str, ...] = ()
    slices: Mapping[str, str] = field(default_factory=dict)
    families: tuple[str, ...] = ()
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    partition: Literal["month", "day"] = "month"

    def view_definitions(self) -> tuple[AsofView, ...]:
        """How each view is joined."""
        return tuple(one.view for one in self.definitions())

    def views(self, tables: Tables) -> dict[str, pl.DataFrame]:
        """Every view's table by name, made of all events of `tables`."""
        from tidegate.features.windows import build

        return {one.view.name: build(one, tables) for one in self.definitions()}

    def derive(self, joined: pl.DataFrame) -> pl.DataFrame:
        """Joined rows with fallbacks in place and the on-demand features."""
        from tidegate.features.derive import fall_back, on_demand

        return on_demand(fall_back(joined, self.fallbacks), self.derived)


def load_workload(name: str) -> Workload:
    """``"flights.workload:flight_delay"`` -> the object.

    Raises UserError when the module does not import, has no such object, or the object is not a Workload.
    """
    takes = "package.module:object, where the object is a tidegate.workload.Workload"
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise UserError("workload", name, takes)
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError, TypeError, NameError, SyntaxError) as error:
        raise UserError("workload", name, f"{takes} ({error})") from error
    if not isinstance(found, Workload):
        raise UserError("workload", name, f"{takes}; this one is a {type(found).__name__}")
    return found
