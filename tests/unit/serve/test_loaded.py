from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tidegate.errors import PlatformError
from tidegate.serve.loaded import load_model
from tidegate.train.model_file import digest_of, write_manifest


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def test_a_changed_file_is_not_loaded(copy: Path) -> None:
    data = bytearray((copy / "model.onnx").read_bytes())
    data[100] ^= 1
    (copy / "model.onnx").write_bytes(data)
    with pytest.raises(PlatformError, match=r"model\.onnx: not the file that was registered"):
        load_model(copy)


def test_another_digest_than_asked_for_is_not_loaded(copy: Path) -> None:
    with pytest.raises(PlatformError, match="expected sha256:0"):
        load_model(copy, "sha256:" + "0" * 64)


def test_a_model_that_answers_a_reference_row_otherwise_is_not_ready(copy: Path) -> None:
    reference = json.loads((copy / "reference.json").read_text())
    reference["scores"][1] += 3e-5
    (copy / "reference.json").write_text(json.dumps(reference))
    write_manifest(copy)
    with pytest.raises(PlatformError, match="row 1 scored"):
        load_model(copy)


def test_with_keys_an_unsigned_model_is_not_loaded_and_a_signed_one_is(copy: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    with pytest.raises(PlatformError, match="signature"):
        load_model(copy, public_keys=[public])
    (copy / "signature").write_text(key.sign(digest_of(copy).encode()).hex())
    assert load_model(copy, public_keys=[public]).digest == digest_of(copy)


def test_a_file_that_is_no_onnx_is_one_line(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"nothing")
    write_manifest(copy)
    with pytest.raises(PlatformError, match=r"model\.onnx"):
        load_model(copy)
