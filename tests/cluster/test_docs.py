"""The blocks of the docs that are marked ``sh cluster``, typed on the test cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from k8s.cluster.places import BIN, KUBECONFIG

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
from pages import PAGES, ROOT, Block, blocks

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
BLOCKS = [one for page in PAGES for one in blocks(page) if one.info == "sh cluster"]


@pytest.fixture(scope="module")
def definitions(up: None) -> None:
    """Models and Releases are known to the server, as after an installation."""
    words = [str(BIN / "kubectl"), "--kubeconfig", str(KUBECONFIG), "apply", "--server-side", "--force-conflicts"]
    subprocess.run([*words, "-k", str(ROOT / "k8s/crds")], check=True)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_of_the_cluster_runs(block: Block, definitions: None):
    path = f"{BIN}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=ROOT, env={**os.environ, "KUBECONFIG": str(KUBECONFIG), "PATH": path}, capture_output=True, text=True,
        check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
