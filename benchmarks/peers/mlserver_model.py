"""MLServer with a runtime of its own for ONNX. ``mlserver start FOLDER``."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from model import session


class Onnx(MLModel):
    """Scores one tensor [N, F]."""

    async def load(self) -> bool:
        """Load the model."""
        self._session = session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score rows."""
        rows = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        scores = self._session.run(["score"], {"features": rows})[0].ravel()
        outputs = [NumpyCodec.encode_output("score", scores)]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
