"""A Feast repo folder as the feature step uses it: loaded, applied, asked. Does I/O."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.errors import UserError

if TYPE_CHECKING:
    import polars as pl


@contextlib.contextmanager
def quick_import() -> Iterator[None]:
    """Import feast without typeguard's instrumentation, which recompiles its functions: half of the import's 6 s."""
    try:
        import typeguard
    except ImportError:  # a Feast without it
        yield
        return

    def as_it_is(target: Any = None, **_: Any) -> Any:
        return target if target is not None else as_it_is

    instrument = typeguard.typechecked
    typeguard.typechecked = as_it_is
    try:
        yield
    finally:
        typeguard.typechecked = instrument


def find_repo(path: str, module: str) -> Path:
    """The Feast repo folder: `path` from the working directory, else from a folder above the workload's module."""
    file = getattr(sys.modules.get(module), "__file__", None)
    above = Path(file).resolve().parents if file else ()
    for folder in (Path.cwd(), *above):
        if (folder / path / "feature_store.yaml").is_file():
            return folder / path
    raise UserError("feature_repo", path, f"a folder with feature_store.yaml, in {Path.cwd()} or above {file}")


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[list[str]]:
    """The folder's modules by name, importable inside the block and forgotten after it."""
    names = sorted(path.stem for path in folder.glob("*.py"))
    hidden = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield names
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


def load_objects(folder: Path) -> list[Any]:
    """Every Feast object at the top of the folder's modules; each once."""
    from feast import Entity, FeatureService, FeatureView
    from feast.data_source import DataSource
    from feast.on_demand_feature_view import OnDemandFeatureView

    kinds = (Entity, DataSource, FeatureView, OnDemandFeatureView, FeatureService)
    with _importable(folder) as names:
        modules = [importlib.import_module(name) for name in names]
    found = {id(one): one for module in modules for one in vars(module).values() if isinstance(one, kinds)}
    return list(found.values())


def historical(folder: Path, service: str, entities: pl.DataFrame) -> pl.DataFrame:
    """Apply the repo in `folder` and ask for a feature service at the entity rows.

    The folder is written to (registry, online store's tables), so it is a copy. The answer has the entity rows in
    their order with every feature of the service, on-demand ones included.
    """
    with quick_import():
        from feast import FeatureStore
    import polars as pl

    store = FeatureStore(repo_path=str(folder))
    with warnings.catch_warnings():
        # Feast calls on-demand views slow for offline retrieval; ours are vectorised.
        warnings.filterwarnings("ignore", "On demand feature view is an experimental", RuntimeWarning)
        store.apply(load_objects(folder))
    asked = store.get_feature_service(service)
    # A value that was written later was not known at the entity row's time: without this a backfill leaks.
    job = store.get_historical_features(entities.to_pandas(), asked, filter_by_created_timestamp=True)
    return pl.DataFrame(job.to_arrow())
