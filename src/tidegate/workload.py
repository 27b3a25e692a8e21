"""What a workload is: the one object through which the platform knows a user's data, features and question.

A workload is a package of its own (``src/<name>/``) with one module-level `Workload`; a Model file names it as
``package.module:object``. The platform loads it by that name and never imports a workload itself.

Tables. A source gives tables by name; every table has a column `EVENT_TIME` (UTC datetime, microseconds): when the row
became known. Nothing may be derived from a row for an earlier time than that.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tidegate.errors import UserError

if TYPE_CHECKING:
    import polars as pl

    from tidegate.features.asof import AsofView
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
class Workload:
    """A question asked of data, as a value.

    Parameters
    ----------
    name: of the workload.
    key: column that identifies one unit asked about (one flight); unique in the entity rows.
    source: gives the tables.
    contract: builds the checks and repairs, by table.
    views: tables -> the feature views' source tables by view name, each with ``event_timestamp``.
    view_definitions: gives how each view is joined: keys, time to live, features. The Feast repo reads the same ones.
    entities: (tables, until) -> one row a unit whose label is known at `until`: `key`, ``event_timestamp``
        (prediction time), ``label_timestamp``, ``outcome`` (observed or cancelled), ``label`` (0/1 or null), join
        keys, request-time inputs, slice columns.
    derive: joined rows -> the same rows with the on-demand features; the Feast on-demand view calls the same function.
    features: inputs of the model, in its order.
    feature_service: name in the Feast repo; feature_repo: its folder, relative to the repository.
    slices: slice name -> column of the entity rows, for gates by slice and protected group.
    families, params: hints for training, plain data: candidate families in order, and parameters by family.
    """

    name: str
    key: str
    source: Source
    contract: Callable[[], Contract]
    views: Callable[[Tables], dict[str, pl.DataFrame]]
    view_definitions: Callable[[], tuple[AsofView, ...]]
    entities: Callable[[Tables, datetime], pl.DataFrame]
    derive: Callable[[pl.DataFrame], pl.DataFrame]
    features: tuple[Feature, ...]
    feature_service: str
    feature_repo: str = "feature_repo"
    slices: Mapping[str, str] = field(default_factory=dict)
    families: tuple[str, ...] = ()
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


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
