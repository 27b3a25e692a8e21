"""The Open Inference Protocol: what KServe's, MLServer's and Triton's clients send, as JSON and as bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asked import Server, server
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import SCHEMA, reference_score

from tidegate.errors import UserError
from tidegate.serve import tensors
from tidegate.serve.tensors import NUMBERS, TensorRows, decode
from tidegate.train.model_file import FeatureSchema

INFER = "/v2/models/flight-delay/infer"
ROWS: list[dict[str, Any]] = [
    {"distance": 0.5, "carrier": "UA", "dep hour": 7.0},
    {"distance": None, "carrier": "zz", "dep hour": 3.0},
]
SCORES = [reference_score(row) for row in ROWS]
COLUMNS = [
    {"name": "distance", "shape": [2], "datatype": "FP32", "data": [0.5, None]},
    {"name": "carrier", "shape": [2, 1], "datatype": "BYTES", "data": [["UA"], ["zz"]]},
    {"name": "dep hour", "shape": [2, 1], "datatype": "INT64", "data": [7, 3]},
]
MATRIX = {"name": "features", "shape": [2, 3], "datatype": "FP64", "data": [0.5, 2, 7, None, 0, 3]}
SCHEMA_OF_TESTS = FeatureSchema.parse(json.dumps(SCHEMA))


@pytest.fixture(scope="module")
def wall(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = server(model_folder, tmp_path_factory.mktemp("rows"), "wall")
    yield found
    found.app.scorer.log.close()


def ask(wall: Server, body: Any, path: str = INFER, **more: Any) -> tuple[int, Any]:
    status, _, answer = wall.ask(path, json.dumps(body).encode(), **more)
    return status, json.loads(answer)


@pytest.mark.parametrize("inputs", [COLUMNS, [MATRIX], [{**MATRIX, "data": [[0.5, 2, 7], [None, 0, 3]]}]])
@pytest.mark.parametrize("path", [INFER, "/v2/models/flight-delay/versions/v1/infer"])
def test_columns_and_the_matrix_give_predicts_scores(wall: Server, inputs: list[Any], path: str) -> None:
    status, answer = ask(wall, {"id": "q7", "inputs": inputs, "outputs": [{"name": "score"}]}, path)
    assert status == 200
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("flight-delay", "v1", "q7")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("score", "FP32", [2])
    assert output["data"] == pytest.approx(SCORES, abs=1e-6)


def test_a_row_is_logged_as_predict_would(wall: Server) -> None:
    before = len(wall.rows())
    ask(wall, {"inputs": [MATRIX]}, headers={"x-request-id": "abc"})
    first, second = wall.rows()[before:]
    assert (first.request_id, first.features, first.endpoint) == ("abc/0", [0.5, "UA", 7.0], None)
    # the model's input knows no more of a category than its code
    assert second.features == [None, None, 3.0]


def test_an_absent_feature_is_null(wall: Server) -> None:
    status, answer = ask(wall, {"inputs": [{"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["AA"]}]})
    assert status == 200
    assert answer["outputs"][0]["data"] == pytest.approx([reference_score({"carrier": "AA"})], abs=1e-6)


def packed(texts: list[str]) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def test_tensors_and_scores_may_come_as_bytes(wall: Server) -> None:
    parts = [
        ("distance", "FP32", np.array([0.5, np.nan], "<f4").tobytes()),
        ("carrier", "BYTES", packed(["UA", "zz"])),
        ("dep hour", "INT16", np.array([7, 3], "<i2").tobytes()),
    ]
    inputs = [
        {"name": name, "shape": [2], "datatype": kind, "parameters": {"binary_data_size": len(data)}}
        for name, kind, data in parts
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    status, headers, body = wall.ask(INFER, head + b"".join(data for *_, data in parts), headers=length)
    cut = int(headers["inference-header-content-length"])
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    assert json.loads(body[:cut])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(body[cut:], "<f4") == pytest.approx(SCORES, abs=1e-6)


@given(st.sampled_from(sorted(NUMBERS)), st.lists(st.integers(0, 100), min_size=1, max_size=5))
def test_numbers_as_bytes_are_those_as_json(datatype: str, numbers: list[int]) -> None:
    base = {"name": "dep hour", "shape": [len(numbers)], "datatype": datatype}
    data = np.array(numbers, NUMBERS[datatype]).tobytes()
    head = json.dumps({"inputs": [{**base, "parameters": {"binary_data_size": len(data)}}]}).encode()
    told = json.dumps({"inputs": [{**base, "data": numbers}]}).encode()
    rows = TensorRows(SCHEMA_OF_TESTS)
    assert rows.rows(*decode(head + data, len(head))) == rows.rows(*decode(told))


def test_the_server_and_the_model_describe_themselves(wall: Server) -> None:
    assert ask(wall, None, "/v2/health/live", method="GET") == (200, {"live": True})
    assert ask(wall, None, "/v2/health/ready", method="GET") == (200, {"ready": True})
    assert ask(wall, None, "/v2", method="GET")[1]["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/models/flight-delay", "/v2/models/flight-delay/versions/v1"):
        status, model = ask(wall, None, path, method="GET")
        assert (status, model["name"], model["versions"]) == (200, "flight-delay", ["v1"])
        assert [(one["name"], one["datatype"]) for one in model["inputs"]] == [
            ("distance", "FP32"),
            ("carrier", "BYTES"),
            ("dep hour", "FP32"),
        ]
        assert ask(wall, None, f"{path}/ready", method="GET") == (200, {"name": "flight-delay", "ready": True})


@pytest.mark.parametrize("rest", ["", "/ready", "/infer"])
@pytest.mark.parametrize("model", ["other", "flight-delay/versions/v2"])
def test_another_model_or_version_is_404(wall: Server, model: str, rest: str) -> None:
    status, answer = ask(wall, {}, f"/v2/models/{model}{rest}", method="POST" if rest == "/infer" else "GET")
    assert status == 404
    assert "takes" in answer["error"]


def column(**changed: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "distance", "shape": [1], "datatype": "FP32", "data": [1.0], **changed}]}


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({}, "inputs: got None, takes a value"),
        ({"inputs": []}, "inputs: got 'a value out of range', takes array of length >= 1"),
        (column(name="speed"), "inputs[0].name: got 'speed', takes features or one of distance, carrier, dep hour"),
        (column(shape=[2]), "inputs[0].data: got '1 values', takes 2, as its shape says"),
        (column(shape=[1, 2]), "inputs[0].shape: got [1, 2], takes [N] or [N, 1]"),
        (column(shape=[0], data=[]), "inputs[0].shape: got [0], takes 1 to 1000 rows"),
        (column(shape=[1001]), "inputs[0].shape: got [1001], takes 1 to 1000 rows"),
        (column(shape=[-1]), "inputs[0].shape[0]: got"),
        (column(shape=[1, 1], data=[[1.0, 2.0]]), "inputs[0].data: got 'rows of another length'"),
        (column(datatype="FP16"), "inputs[0].datatype: got"),
        (column(datatype="BYTES", data=["x"]), "inputs[0].datatype: got 'BYTES', takes FP32"),
        (column(data=["x"]), "inputs[0].data[0]: got 'str', takes float"),
        (column(data=[1e39]), "inputs[0].data[0]: got 'a value out of range'"),
        (column(data=5), "inputs[0].data: got 'int', takes array"),
        (column(data=[1.0], parameters={"binary_data_size": 4}), "inputs[0].parameters.binary_data_size: got 4"),
        ({**column(), "outputs": [{"name": "label"}]}, "outputs[0].name: got 'label', takes score"),
        ({"inputs": [*COLUMNS, COLUMNS[0]]}, "inputs[3].name: got 'distance', takes each feature once"),
        ({"inputs": [MATRIX, COLUMNS[0]]}, "inputs: got '2 tensors', takes features alone"),
        ({"inputs": [{**MATRIX, "data": [1, 9, 1, 1, 1, 1]}]}, "inputs[0].data[0].carrier: got 9.0, takes a category"),
        ({"inputs": [{**MATRIX, "data": [1, 0.5, 1, 1, 1, 1]}]}, "inputs[0].data[0].carrier: got 0.5"),
        ({"inputs": [{**MATRIX, "shape": [3, 2]}]}, "inputs[0].shape: got [3, 2], takes [N, 3]"),
    ],
)
def test_a_refusal_names_the_tensor_what_it_got_and_what_it_takes(wall: Server, body: Any, line: str) -> None:
    status, answer = ask(wall, body)
    assert status == 400
    assert answer["error"].startswith(line)


@pytest.mark.parametrize(
    ("name", "datatype", "data", "line"),
    [
        ("distance", "FP32", b"abc", "inputs[0]: binary data: got '3 bytes', takes a multiple of 4"),
        ("distance", "FP64", struct.pack("<d", 1e39), "inputs[0]: binary data: got 'a number that is not finite'"),
        ("distance", "FP32", b"a" * 8, "inputs[0]: binary data: got '2 values', takes 1"),
        ("carrier", "BYTES", b"\2\0\0\0a", "inputs[0]: binary data: got 'an element that is cut off'"),
        ("carrier", "BYTES", b"\1\0", "inputs[0]: binary data: got 'an element that is cut off'"),
        ("carrier", "BYTES", b"\1\0\0\0\xff", "inputs[0]: binary data: got 'bytes that are not UTF-8'"),
    ],
)
def test_bytes_that_are_not_what_they_say_are_refused(name: str, datatype: str, data: bytes, line: str) -> None:
    tensor = {"name": name, "shape": [1], "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
    body = json.dumps({"inputs": [tensor]}).encode()
    with pytest.raises(UserError) as error:
        TensorRows(SCHEMA_OF_TESTS).rows(*decode(body + data, len(body)))
    assert str(error.value).startswith(line)


@pytest.mark.parametrize("length", ["x", "-1", "9" * 20, "1000"])
def test_a_length_of_the_json_that_is_none_is_refused(wall: Server, length: str) -> None:
    status, answer = ask(wall, column(), headers={"Inference-Header-Content-Length": length})
    assert status == 400
    assert answer["error"].startswith("inference-header-content-length: got")


NUMBER_TEXTS = (
    st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(-(2**70), 2**70).map(str)
    | st.tuples(st.integers(), st.integers(-400, 400)).map(lambda parts: f"{parts[0]}e{parts[1]}")
)
OTHER_TEXTS = st.sampled_from(
    ["null", "true", '"1"', '"["', "[1]", "{}", "-0.0", "-0", "01", "1.", "NaN", "Infinity", ""]
)


@given(
    st.lists(NUMBER_TEXTS | OTHER_TEXTS, max_size=6), st.sampled_from(["[%s]", " [ %s ] ", '{"a":[%s]}', "%s", "[%s"])
)
def test_numbers_parsed_at_once_are_those_that_are_parsed_one_by_one(texts: list[str], around: str) -> None:
    text = (around % ",".join(texts)).encode()
    found = tensors._flat_numbers(text)
    if found is not None:
        wanted = np.array(tensors._FLAT.decode(text), np.float64)
        assert found.tobytes() == wanted.tobytes()


def test_plain_numbers_are_parsed_at_once() -> None:
    found = tensors._flat_numbers(b"[1, -2.5e3, 11.507800102233887]")
    assert found is not None
    assert found.tolist() == [1.0, -2500.0, 11.507800102233887]


def test_many_numbers_make_the_rows_that_few_make() -> None:
    rows, one = TensorRows(SCHEMA_OF_TESTS), [0.1, 2.0, 7.25]
    many = {"inputs": [{**MATRIX, "shape": [200, 3], "data": one * 200}]}
    few = {"inputs": [{**MATRIX, "shape": [1, 3], "data": one}]}
    found, alone = (rows.rows(*decode(json.dumps(body).encode())) for body in (many, few))
    assert len(json.dumps(many["inputs"][0]["data"])) > tensors._SHORT
    assert found.numbers == alone.numbers * 200
    assert (found.lists(), found.texts) == (alone.lists() * 200, {})


LONG = json.dumps([0.1, 2.0, 7.25] * 200).encode()
AROUND = [
    b'{"inputs":[{"name":"features","shape":[200,3],"datatype":"FP64","data" : %s}]}',
    b'{"inputs":[{"name":"features","data":%s,"shape":[200,3],"datatype":"FP32"}],"id":"7"}',
]


@pytest.mark.parametrize("around", AROUND)
def test_an_only_tensor_is_gone_through_once(around: bytes) -> None:
    request, _, numbers = decode(around % LONG)
    assert numbers is not None
    assert bytes(request.inputs[0].data) != LONG  # type: ignore[arg-type]
    assert numbers.tolist() == json.loads(LONG)


@pytest.mark.parametrize(
    "around",
    [
        b'{"inputs":[{"name":"carrier","shape":[600],"datatype":"BYTES","data":%s}]}',
        b'{"inputs":[{"name":"a","shape":[600],"datatype":"FP32","parameters":{"data":%s}}]}',
        b'{"inputs":[{"name":"a","shape":[0],"datatype":"FP32","\\"data":%s}]}',
        b'{"inputs":[{"name":"a","shape":[600],"datatype":"FP32"}],"data":%s}',
        b'{"inputs":[{"name":"a","data":[1],"shape":[1],"datatype":"FP32","parameters":{"data":%s}}]}',
        b'{"inputs":[{"name":"a","data":%s,"shape":[600],"datatype":"FP32","data":[1]}]}',
        b'{"inputs":[{"name":"a","shape":[600],"datatype":"FP32","data":[%s]}]}',
        b'{"inputs":[{"name":"a","data":%s,"shape":[1],"datatype":"INT8"},{"name":"b","shape":[1],"datatype":"INT8"}]}',
    ],
)
def test_whatever_else_holds_a_long_list_is_decoded_as_it_is(around: bytes) -> None:
    request, _, numbers = decode(around % LONG)
    assert numbers is None
    assert request == tensors._REQUEST.decode(around % LONG)


@pytest.mark.parametrize(
    "around", [b'{"inputs":[{"data":%s}]}', b'{"inputs":[{"data":%s', b'"data":%s', b'{"data":%s}']
)
def test_what_is_no_request_is_refused_however_long(around: bytes) -> None:
    with pytest.raises(UserError):
        decode(around % LONG)


def test_float32_is_logged_as_float32(wall: Server) -> None:
    for count in (1, 2, 200):
        before, data = len(wall.rows()), [0.1, 2.0, 7.25] * count
        status, answer = ask(
            wall, {"inputs": [{"name": "features", "shape": [count, 3], "datatype": "FP32", "data": data}]}
        )
        assert status == 200
        found = wall.rows()[before:]
        assert [row.features for row in found] == [[float(np.float32(0.1)), "UA", 7.25]] * count
        assert [row.score for row in found] == answer["outputs"][0]["data"]


@pytest.mark.parametrize(
    ("place", "wrong", "named"),
    [
        (301, 1e39, r"data\[301\]"),
        *(
            (301, code, r"data\[100\]\.carrier: got .*, takes a category's code")
            for code in (0.5, -1, 3, 4, 1e30, -1e30)
        ),
    ],
)
def test_one_wrong_number_among_many_is_named(place: int, wrong: float, named: str) -> None:
    data: list[Any] = [0.1, 2.0, 7.25] * 200
    data[place] = wrong
    body = {"inputs": [{**MATRIX, "shape": [200, 3], "data": data}]}
    with pytest.raises(UserError, match=rf"inputs\[0\]\.{named}"):
        TensorRows(SCHEMA_OF_TESTS).rows(*decode(json.dumps(body).encode()))
