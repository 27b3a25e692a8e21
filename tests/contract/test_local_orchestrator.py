from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from contract.orchestrator import OrchestratorContract

from tidegate.orchestrators.local import LocalOrchestrator


class TestLocalOrchestrator(OrchestratorContract):
    @pytest.fixture
    def orchestrator(self, tmp_path: Path) -> LocalOrchestrator:
        return LocalOrchestrator(tmp_path / "state")

    @pytest.fixture
    def finish(self) -> Callable[[str, str], None]:
        return lambda run, error: None
