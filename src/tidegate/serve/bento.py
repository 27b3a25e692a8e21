"""The BentoML service: what ``bentoml serve`` and ``bentoml build`` see.

`service_class` is BentoML's own seam: its worker serves whatever `to_asgi` of that class returns, so that
``bentoml serve`` starts the same app as ``python -m tidegate.serve.service``. Settings come from ``TIDEGATE_*``.
"""

from __future__ import annotations

import logging
from typing import Any

import bentoml
from _bentoml_sdk import Service  # type: ignore[import-untyped]

from tidegate.serve.service import Settings, wrap


class OuterService(Service[Any]):  # type: ignore[misc]
    """A BentoML service whose hot paths are answered outside BentoML's middleware."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """BentoML's app inside ours."""
        # as uvicorn's own access_log=False does; else it makes the text of a line that nobody writes
        logging.getLogger("uvicorn.access").propagate = False
        return wrap(Settings.from_environment(), self.bare(is_main))

    def bare(self, is_main: bool = True) -> Any:
        """BentoML's own app alone."""
        return super().to_asgi(is_main=is_main)


@bentoml.service(
    name="tidegate", service_class=OuterService, traffic={"timeout": 30}, logging={"access": {"enabled": False}}
)
class PredictionService:
    """Scores rows by one model version.

    The outer app answers /predict; this method only tells BentoML's document and clients of it.
    """

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
    def predict(self, rows: list[dict[str, Any]], at: float | None = None) -> dict[str, Any]:
        """Score rows: ``{"rows": [{feature: value}], "at"?}``."""
        raise NotImplementedError("answered by the outer app")
