"""What every peer does with the model: ONNX Runtime on one thread, categories by their codes."""

import json
import os
from pathlib import Path

import onnxruntime

FOLDER = Path(os.environ["MODEL_DIR"])
FEATURES = json.loads((FOLDER / "feature_schema.json").read_text())["features"]
CODES = {one["name"]: {text: code for code, text in enumerate(one["categories"] or (), 1)} for one in FEATURES}


def session() -> onnxruntime.InferenceSession:
    """The model as our own service loads it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), options, providers=["CPUExecutionProvider"])
