"""The OpenAPI document is true: schemathesis asks the running service whatever the document allows, and what not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from one_service import TOKEN, served

EXAMPLES = int(os.environ.get("DOCUMENT_EXAMPLES", "8"))
"""Random ones a path, beside those that schemathesis works out of the document; `make soak` makes more."""

# how many values a tensor holds, and which names there are, is more than the document can say
CONFIG = """
[[operations]]
include-path-regex = "/infer$"
checks.positive_data_acceptance.enabled = false
"""


@pytest.mark.timeout(60 + 10 * EXAMPLES)
def test_every_answer_is_as_the_document_says(model_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    with served(model_folder, tmp_path / "served") as (port, _):
        words = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run",
            f"http://127.0.0.1:{port}/openapi.json", "--max-examples", str(EXAMPLES), "--phases", "coverage,fuzzing",
            "--header", f"Authorization: Bearer {TOKEN}", "--seed", "1", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    tested, cases = re.search(r"Tested: (\d+)", done.stdout), re.search(r"(\d+) generated", done.stdout)
    assert tested
    assert cases
    assert int(tested[1]) >= 16
    assert int(cases[1]) > 300
