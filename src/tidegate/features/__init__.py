"""Features: point-in-time joins and the offline store that brings them to Feast.

`AsofOfflineStore` and its Config are resolved when asked for, so that importing `tidegate.features.asof` does not
import feast.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    """``AsofOfflineStore`` and ``AsofOfflineStoreConfig``, which Feast looks up by name."""
    if name in ("AsofOfflineStore", "AsofOfflineStoreConfig"):
        from tidegate.features import offline_store

        return getattr(offline_store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
