"""Ask a server by Triton's own client, as MLServer's and KServe's users do; prints the scores, one form a line.

``check_v2.py PORT NAME FILE``: FILE holds ``{"columns": {feature: [values]}, "matrix": [[numbers]]}``.
"""

import json
import sys

import numpy as np
import tritonclient.http as triton


def tensors(asked: dict, binary: bool) -> list[triton.InferInput]:
    """A tensor a feature."""
    made = []
    for name, values in asked["columns"].items():
        text = any(isinstance(value, str) for value in values)
        array = np.array(values, object if text else np.float64)
        one = triton.InferInput(name, list(array.shape), "BYTES" if text else "FP64")
        made.append(one.set_data_from_numpy(array, binary_data=binary))
    return made


def main(port: str, name: str, file: str) -> None:
    """Ask in every form."""
    client = triton.InferenceServerClient(f"127.0.0.1:{port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    assert not client.is_model_ready("another")
    assert client.get_model_metadata(name)["outputs"][0]["name"] == "score"
    with open(file) as opened:
        asked = json.load(opened)
    whole = np.array(asked["matrix"], np.float32)
    for binary in (True, False):
        matrix = triton.InferInput("features", list(whole.shape), "FP32").set_data_from_numpy(whole, binary_data=binary)
        wanted = [triton.InferRequestedOutput("score", binary_data=binary)]
        for inputs in (tensors(asked, binary), [matrix]):
            answer = client.infer(name, inputs, outputs=wanted, request_id="q1")
            assert answer.get_response()["id"] == "q1"
            print(json.dumps(answer.as_numpy("score").tolist()))
    status = "200"
    try:
        client.infer("another", tensors(asked, True))
    except triton.InferenceServerException as error:
        status = error.status()
    if "404" not in status:
        raise SystemExit(f"another model was answered {status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
