from __future__ import annotations

import pytest
from contract.target import BROKEN, TargetContract

from tidegate.targets.memory import MemoryTarget


class TestMemoryTarget(TargetContract):
    @pytest.fixture
    def target(self) -> MemoryTarget:
        return MemoryTarget(broken={BROKEN})

    @pytest.fixture
    def digests(self) -> dict[str, str]:
        return {version: f"sha256:{version}" for version in ("v1", "v1.1", "v2", BROKEN)}
