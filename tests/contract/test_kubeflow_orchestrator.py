"""The contract against the stub of Kubeflow's server; see tests/kfp_server_stub.py for what that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract.orchestrator import OrchestratorContract
from kfp_server_stub import KfpServerStub, kfp_server_stub

from tidegate.orchestrators.kubeflow import KubeflowOrchestrator
from tidegate.orchestrators.pods import Pods

IMAGE = "registry.example/components@sha256:" + "a" * 64


@pytest.fixture(scope="module")
def server() -> Iterator[KfpServerStub]:
    with kfp_server_stub() as server:
        yield server


class TestKubeflowOrchestrator(OrchestratorContract):
    @pytest.fixture
    def orchestrator(
        self, server: KfpServerStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> KubeflowOrchestrator:
        server.runs.clear()
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
        return KubeflowOrchestrator(tmp_path / "state", IMAGE, Pods())

    @pytest.fixture
    def finish(self, server: KfpServerStub) -> Callable[[str, str], None]:
        return lambda run, error: server.finish(run, "FAILED" if error else "SUCCEEDED", error)
