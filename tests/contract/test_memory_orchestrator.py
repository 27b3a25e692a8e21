from __future__ import annotations

from collections.abc import Callable

import pytest
from contract.orchestrator import OrchestratorContract

from tidegate.orchestrators.memory import MemoryOrchestrator


class TestMemoryOrchestrator(OrchestratorContract):
    @pytest.fixture
    def orchestrator(self) -> MemoryOrchestrator:
        return MemoryOrchestrator()

    @pytest.fixture
    def finish(self, orchestrator: MemoryOrchestrator) -> Callable[[str, str], None]:
        return orchestrator.finish
