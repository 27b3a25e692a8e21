"""``bentoml build src``: without a network, of locked requirements; ``bentoml serve`` runs the Bento's own code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tidegate.observations import SegmentReader
from tidegate.targets.gatewayd import http
from tidegate.targets.processes import free_port, wait_until

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
NOWHERE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")

PINNED = re.compile(r"^[\w.-]+==[^\s;]+", re.MULTILINE)


def test_a_bento_is_built_offline_and_serves_from_its_own_files(model_folder: Path, tmp_path: Path) -> None:
    home = {**os.environ, **NOWHERE, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    built = subprocess.run(
        [BIN / "bentoml", "build", "src", "--output", "tag"], cwd=ROOT, env=home, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    name, _, version = built.stdout.strip().rpartition("__tag__:")[2].partition(":")
    bento = tmp_path / "home/bentos" / name / version
    files = {str(path.relative_to(bento / "src")) for path in (bento / "src").rglob("*.py")}
    ours = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert files == ours
    locked = exported()
    # whoever changes uv.lock makes the file again: uv export, as `exported` does
    assert (ROOT / "src/requirements.txt").read_text() == locked
    pinned = PINNED.findall((bento / "env/python/requirements.txt").read_text())
    assert set(pinned) == set(PINNED.findall(locked))

    # a mark that only the Bento's copy of the code has
    code = bento / "src/tidegate/serve/v2.py"
    code.write_text(code.read_text().replace('Server("tidegate"', 'Server("of the bento"'))
    port = free_port()
    told = {
        "MODEL_DIR": str(model_folder), "NAME": "flight-delay", "VERSION": "v1", "OBSERVATIONS": str(tmp_path / "rows"),
    }  # fmt: skip
    environment = {**home, **{f"TIDEGATE_{key}": value for key, value in told.items()}}
    words = [str(BIN / "bentoml"), "serve", f"{name}:{version}", "--port", str(port)]
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            assert wait_until(lambda: http(port, "/readyz")[0] == 200, 60)
            assert json.loads(http(port, "/v2")[2])["name"] == "of the bento"
            assert http(port, "/predict", "POST", b'{"rows":[{"distance":1}]}')[0] == 200
        finally:
            process.terminate()
            process.wait(30)
    assert len(SegmentReader(tmp_path / "rows").read()) == 1


def exported() -> str:
    """What the lock file says the serving extra needs."""
    words = ["export", "--frozen", "--offline", "--no-dev", "--extra", "serve", "--no-emit-project", "--no-hashes"]
    words += ["--no-annotate", "--no-header", "--quiet"]
    done = subprocess.run([BIN / "uv", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_what_is_loaded_is_not_garbage_collected_again(model_folder: Path, tmp_path: Path) -> None:
    program = (
        "import gc, pathlib, tidegate.serve.service as s;"
        f"s.wrap(s.Settings(pathlib.Path({str(model_folder)!r}), 'm', 'v1', pathlib.Path({str(tmp_path)!r})), None);"
        "print(gc.get_freeze_count() > 10 * len(gc.get_objects()))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "True"


def test_under_bentoml_no_access_line_is_made_for_nobody(model_folder: Path, tmp_path: Path) -> None:
    program = (
        "import logging; logging.basicConfig();"
        "from tidegate.serve.bento import PredictionService; PredictionService.to_asgi();"
        "print(logging.getLogger('uvicorn.access').hasHandlers())"
    )
    given = {"MODEL_DIR": model_folder, "NAME": "m", "VERSION": "v1", "OBSERVATIONS": tmp_path}
    environment = {**os.environ, **{f"TIDEGATE_{name}": str(value) for name, value in given.items()}}
    words = [sys.executable, "-c", program]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == "False"
