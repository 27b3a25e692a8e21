"""An edge folder on disk: the runtime, the keys it trusts, and the bundle, signed and switched by one rename."""

from __future__ import annotations

import fcntl
import shutil
import time
from pathlib import Path

from tidegate.ingest.disk import atomic_file, atomic_folder
from tidegate.register.models import sign
from tidegate.serve.edge.bundle import Bundle, Manifest, parse_bundle, to_sign
from tidegate.train.model_file import canonical_json

RUNTIME = (
    "errors.py", "train/model_file.py", "serve/loaded.py", "serve/trees.py", "serve/ranks.py", "serve/onnx_nodes.py",
    "serve/edge/*.py",
)  # fmt: skip
"""What of the platform an edge runs, beside the packages' own `__init__.py`."""

_LAUNCHER = '''"""``python edge.py [--port N] [--updates URL_OR_DIR]`` starts this edge. Needs numpy and onnxruntime."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "lib"))

from tidegate.serve.edge.run import main

if __name__ == "__main__":
    sys.exit(main(HERE))
'''


def next_sequence(state: Path, out: Path) -> int:
    """A number that grows with every bundle, also where the state folder is a new one: never below the seconds' own."""
    path = state / "edge" / "sequence"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        number = max(int(file.read() or 0) + 1, int(time.time()), _offered(out / "bundle") + 1)
        file.truncate(0)
        file.write(str(number))
    return number


def _offered(folder: Path) -> int:
    path = folder / "bundle.json"
    return parse_bundle(path.read_bytes()).manifest.sequence if path.is_file() else 0


def write_folder(out: Path, manifest: Manifest, files: Path, state: Path) -> None:
    """The folder; its bundle is switched by one rename, and the files of the one before stay for who still fetches."""
    bundle, text = out / "bundle", manifest.dump()
    _write_runtime(out)
    (bundle / "files").mkdir(parents=True, exist_ok=True)
    kept = {one.sha256 for one in manifest.files.values()}
    if (bundle / "bundle.json").is_file():
        before = parse_bundle((bundle / "bundle.json").read_bytes()).manifest
        kept |= {one.sha256 for one in before.files.values()}
    for name, one in manifest.files.items():
        with atomic_file(bundle / "files" / one.sha256) as made:
            shutil.copyfile(files / name, made)
    with atomic_file(bundle / "bundle.json") as made:
        made.write_bytes(Bundle(manifest, text, sign(to_sign(text), state)).dump())
    with atomic_file(out / "trust.json") as made:
        made.write_text(canonical_json({"keys": list(manifest.keys)}), encoding="utf-8")
    for path in (bundle / "files").iterdir():
        if path.name not in kept:
            path.unlink()


def _write_runtime(out: Path) -> None:
    package = Path(__file__).parents[1]
    with atomic_folder(out / "lib") as lib:
        for pattern in RUNTIME:
            for path in package.glob(pattern):
                target = lib / "tidegate" / path.relative_to(package)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        for folder in (lib / "tidegate", *(path for path in (lib / "tidegate").rglob("*") if path.is_dir())):
            (folder / "__init__.py").touch()
    with atomic_file(out / "edge.py") as made:
        made.write_text(_LAUNCHER, encoding="utf-8")
