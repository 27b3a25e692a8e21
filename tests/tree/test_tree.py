"""What git tracks: no pickle, and no secret."""

from __future__ import annotations

import pickletools
import subprocess
from pathlib import Path

import pytest
from detect_secrets.core import scan
from detect_secrets.settings import transient_settings

ROOT = Path(__file__).resolve().parents[2]
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".skops")
SECRETS = (
    "AWSKeyDetector", "AzureStorageKeyDetector", "BasicAuthDetector", "DiscordBotTokenDetector", "GitHubTokenDetector",
    "GitLabTokenDetector", "JwtTokenDetector", "NpmDetector", "OpenAIDetector", "PrivateKeyDetector",
    "PypiTokenDetector", "SendGridDetector", "SlackDetector", "SquareOAuthDetector", "StripeDetector",
    "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
"""Of detect-secrets those that know a kind of token by its form; its guesses by entropy would name every digest."""


def tracked() -> list[Path]:
    """Every file that git tracks, and that is there."""
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in told.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.fixture(scope="module")
def files() -> list[Path]:
    return tracked()


def is_pickle(path: Path) -> bool:
    """Whether the file's name says so, or pickle's own reader of protocols 2 to 5 goes through to its end."""
    if path.suffix in PICKLES:
        return True
    with path.open("rb") as opened:
        if opened.read(1) != b"\x80":
            return False
        opened.seek(0)
        try:
            return bool([None for _ in pickletools.genops(opened)])
        except ValueError:
            return False


def test_no_pickle_is_tracked(files):
    found = [str(path.relative_to(ROOT)) for path in files if is_pickle(path)]
    assert found == [], "a pickle runs code when it is read; models are ONNX, tables Parquet"


def test_no_secret_is_tracked(files):
    with transient_settings({"plugins_used": [{"name": name} for name in SECRETS]}):
        found = [
            f"{path.relative_to(ROOT)}:{one.line_number}: {one.type}"
            for path in files
            for one in scan.scan_file(str(path))
        ]
    assert found == [], "take it out, and make it invalid: what was pushed once is known"
