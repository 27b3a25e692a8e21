"""The answer of the offline store to Feast: a job that works when its rows are asked for. Does I/O."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import polars as pl
import pyarrow as pa
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView

from tidegate.errors import UserError
from tidegate.features.parquet_source import ParquetSource, open_source
from tidegate.features.parquet_write import add_part, parquet_bytes, put, remove

if TYPE_CHECKING:
    from feast.data_source import DataSource
    from feast.saved_dataset import SavedDatasetStorage


class AsofRetrievalJob(RetrievalJob):
    """One retrieval: runs `evaluate` when its rows are asked for."""

    def __init__(
        self,
        evaluate: Callable[[], pl.DataFrame],
        repo_path: Path | None,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._evaluate, self._repo_path, self._metadata = evaluate, repo_path, metadata
        self._full_feature_names, self._on_demand = full_feature_names, on_demand_feature_views or []

    @property
    def full_feature_names(self) -> bool:
        """Whether feature names carry their view's name."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """On-demand views that Feast applies to the rows."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._evaluate().to_arrow(compat_level=pl.CompatLevel.oldest())

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        rows: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return rows

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Write the rows, on-demand features included, to a Parquet file, or to a folder where the name says so."""
        place = source_of(storage.to_data_source(), self._repo_path)
        before = place.parts()
        if before and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=place.url)
        rows = pl.DataFrame(self.to_arrow(timeout=timeout))
        if not place.is_folder:
            return put(place, place.path, parquet_bytes(rows))
        added = add_part(place, rows)
        # The new rows first: whoever reads in between finds too much rather than nothing.
        for part in set(before) - set(added):
            remove(place, part)


def source_of(source: DataSource, repo_path: Path | None) -> ParquetSource:
    """The files behind a Feast source; a relative path starts at the repo."""
    if not isinstance(source, FileSource):
        raise UserError(f"source {source.name}", type(source).__name__, "a FileSource")
    url = source.path if "://" in source.path else FileSource.get_uri_for_file_path(repo_path, source.path)
    return open_source(url, source.s3_endpoint_override or None, source.resolve_credentials())
