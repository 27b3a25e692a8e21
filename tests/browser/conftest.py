from __future__ import annotations

import os
import shutil

import pytest

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    """A Chromium of this machine; without one the tests are skipped, or fail where it is required."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("TIDEGATE_BROWSER") == "required":
            pytest.fail("no chromium or google-chrome on PATH, and TIDEGATE_BROWSER=required")
        pytest.skip("no chromium or google-chrome on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        yield opened
        opened.close()
