"""What an init container does: the model's files by digest, checked and verified before they appear."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from tiny_models import write_model

from tidegate.register.models import public_key, sign
from tidegate.serve.fetch import main
from tidegate.train.model_file import FILES, folder_name


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, str, str]:
    """(store, digest, key) of one signed version."""
    digest = write_model(tmp_path / "models")
    (tmp_path / "models" / folder_name(digest) / "signature").write_text(sign(digest, tmp_path))
    return tmp_path / "models", digest, public_key(tmp_path).hex()


def fetch(store: object, digest: str, to: Path, *keys: str) -> int:
    words = ["--store", str(store), "--digest", digest, "--to", str(to)]
    return main([*words, *(word for key in keys for word in ("--public-key", key))])


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_the_files_are_there_and_the_same(stored: tuple[Path, str, str], tmp_path: Path, prefix: str) -> None:
    store, digest, key = stored
    assert fetch(f"{prefix}{store}", digest, tmp_path / "to", key) == 0
    for name in FILES:
        assert (tmp_path / "to/files" / name).read_bytes() == (store / folder_name(digest) / name).read_bytes()
    assert fetch(store, digest, tmp_path / "to") == 0, "a container that starts again"


def changed(store: Path, digest: str) -> str:
    path = store / folder_name(digest) / "model.onnx"
    path.write_bytes(path.read_bytes() + b" ")
    return "model.onnx: not the file that was registered"


def missing(store: Path, digest: str) -> str:
    (store / folder_name(digest) / "reference.json").unlink()
    return "no such file"


def unsigned(store: Path, digest: str) -> str:
    (store / folder_name(digest) / "signature").unlink()
    return "no such file"


def of_another_key(store: Path, digest: str) -> str:
    (store / folder_name(digest) / "signature").write_text(sign(digest, store / "other"))
    return "not signed by a trusted key"


def gone(store: Path, digest: str) -> str:
    shutil.rmtree(store / folder_name(digest))
    return "no such file"


@pytest.mark.parametrize("fault", [changed, missing, unsigned, of_another_key, gone])
def test_what_is_not_the_registered_version_never_appears(
    stored: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], fault
) -> None:
    store, digest, key = stored
    said = fault(store, digest)
    assert fetch(store, digest, tmp_path / "to", key) == 2
    assert said in capsys.readouterr().err
    assert list((tmp_path / "to").iterdir()) == []


def test_a_key_that_is_none_is_named(
    stored: tuple[Path, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(stored[0], stored[1], tmp_path / "to", "zz") == 2
    assert "--public-key: got 'zz'" in capsys.readouterr().err


def test_nothing_heavy_is_imported() -> None:
    import subprocess

    heavy = "('mlflow', 'polars', 'feast', 'kfp', 'dvc')"
    program = f"import sys, tidegate.serve.fetch; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
