"""A model version's files are data: a planted pickle is never run, whoever signed it; a flipped byte is refused."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from pathlib import Path

import pytest

from tests.tiny_models import write_model
from tidegate.errors import PlatformError, TidegateError
from tidegate.register.models import public_key, sign, store_model
from tidegate.serve.loaded import load_model
from tidegate.train.model_file import FILES, MANIFEST, check, folder_name, write_manifest

SOURCES = Path(__file__).resolve().parents[3] / "src"
RUN_WHAT_THEY_READ = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "torch"}


class Payload:
    """Whoever unpickles it writes a file."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self):
        return Path.touch, (self._proof,)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A good model folder."""
    return tmp_path / "store" / folder_name(write_model(tmp_path / "store"))


@pytest.fixture(params=[0, 4])
def planted(tmp_path: Path, request) -> tuple[bytes, Path]:
    """A pickle (protocol 0 is plain text) and the file that it writes where it is loaded."""
    proof = tmp_path / "run"
    payload = pickle.dumps(Payload(proof), protocol=request.param)
    pickle.loads(payload)  # noqa: S301 - the payload works
    proof.unlink()
    return payload, proof


@pytest.mark.parametrize("name", FILES)
def test_a_planted_pickle_is_refused_by_the_digest(model, planted, name):
    payload, proof = planted
    (model / name).write_bytes(payload)
    with pytest.raises(PlatformError, match=rf"{name}: not the file that was registered"):
        load_model(model)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["feature_schema.json", "model.onnx", "reference.json"])
def test_a_planted_pickle_that_was_even_signed_is_read_as_data_and_refused(model, planted, tmp_path, name):
    payload, proof = planted
    (model / name).write_bytes(payload)
    digest = write_manifest(model)
    (model / "signature").write_text(sign(digest, tmp_path / "state"))
    with pytest.raises(TidegateError):
        load_model(model, digest, [public_key(tmp_path / "state")])
    assert not proof.exists()


@pytest.mark.parametrize("extra", ["model.pkl", "model.joblib", "__init__.py", "conftest.py"])
def test_a_pickle_beside_the_files_is_neither_read_nor_stored(model, planted, tmp_path, extra):
    payload, proof = planted
    (model / extra).write_bytes(payload)
    digest = write_manifest(model)
    kept = store_model(model, digest, tmp_path / "state")
    assert sorted(path.name for path in kept.iterdir()) == sorted([*FILES, MANIFEST, "signature"])
    load_model(model, digest)
    assert not proof.exists()


def test_a_pickle_is_no_text_to_train_on_from(planted):
    import lightgbm

    payload, proof = planted
    with pytest.raises(lightgbm.basic.LightGBMError):
        lightgbm.Booster(model_str=payload.decode("latin-1"))
    assert not proof.exists()


def test_nothing_in_the_platform_can_unpickle():
    found = [
        (path.name, name)
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _imported(node)
        if name.partition(".")[0] in RUN_WHAT_THEY_READ
    ]
    assert found == []
    assert not [path for path in SOURCES.rglob("*.py") if "allow_pickle" in path.read_text()]
    assert list(_imported(ast.parse("import a.b, pickle").body[0])) == ["a.b", "pickle"]


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("where", [0, 0.37, 1])
def test_a_flipped_byte_is_refused_by_its_file_before_anything_is_loaded(model, tmp_path, name, where):
    digest = json.loads((model / MANIFEST).read_text())["digest"]
    kept = store_model(model, digest, tmp_path / "state")
    copy = Path(shutil.copytree(kept, tmp_path / "copy"))
    content = bytearray((copy / name).read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    (copy / name).chmod(0o644)
    (copy / name).write_bytes(content)
    if name == MANIFEST:  # it is not what is trusted: the digest is asked for from outside, over the files themselves
        check(copy, digest)
        return
    with pytest.raises(PlatformError, match=name):
        load_model(copy, digest, [public_key(tmp_path / "state")])
    with pytest.raises(PlatformError, match=name):
        store_model(copy, digest, tmp_path / "other")
