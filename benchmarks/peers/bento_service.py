"""Plain BentoML: its sync API with numpy. ``bentoml serve bento_service:Plain``."""

import bentoml
import numpy as np
from model import session


@bentoml.service(traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Plain:
    """Scores rows of numbers."""

    def __init__(self) -> None:
        self._session = session()

    @bentoml.api
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Score rows [N, F]."""
        return self._session.run(["score"], {"features": rows.astype(np.float32)})[0].ravel()
