"""The whole installation in namespace `tidegate`, from the overlay, driven and read with kubectl alone."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import yaml
from cluster.space import PROGRAM, kubectl

from k8s.cluster import addons, machine
from tidegate.controller.lease import EVERY
from tidegate.controller.operator import LEADS
from tidegate.journal.events import Event
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.views import seconds
from tidegate.pod_security import USER
from tidegate.targets.processes import wait_until

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE, OPERATOR = "tidegate", "app.kubernetes.io/component=operator"


class Installation:
    """Namespace `tidegate` as the overlay makes it."""

    def kubectl(self, *words: str, **more: Any) -> str:
        return kubectl("--namespace", NAMESPACE, *words, **more)

    # --- installing -------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Nothing of an earlier installation is left, nor in its volumes; Models go first: the operator drains them."""
        if kubectl("get", "crd", "models.tidegate.dev", "--ignore-not-found"):
            self.kubectl("delete", "models", "--all", "--timeout=120s")
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
        # a proxy would wait for its clients for minutes
        self.kubectl("delete", "pods", "--all", "--force", "--grace-period=0", check=False)
        kubectl("wait", "--for=delete", "--timeout=120s", f"namespace/{NAMESPACE}")
        if machine.road() == "source":
            addons.install_storage()

    def small_disk(self, megabytes: int) -> Path:
        """Before an installation: its shared volume is to be a disk of its own, of this size; where it is mounted."""
        found = json.loads(kubectl("get", "persistentvolumes", "--output", "json"))["items"]
        volume = next(one for one in reversed(found) if one["status"]["phase"] == "Available")
        place = Path(volume["spec"]["local"]["path"])
        options = f"size={megabytes}m,gid={USER},mode=2775"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tidegate-state", place], check=True)
        claim = {"spec": {"claimRef": {"namespace": NAMESPACE, "name": "tidegate-state"}}}
        kubectl("patch", "persistentvolume", volume["metadata"]["name"], "--type=merge", "--patch", json.dumps(claim))
        return place

    def install(self) -> None:
        """The overlay, with event time as the operator's clock."""
        objects = [*yaml.safe_load_all(kubectl("kustomize", str(ROOT / "k8s/overlays/local")))]
        for one in objects:
            if (one["kind"], one["metadata"]["name"]) == ("Deployment", "tidegate-operator"):
                one["spec"]["template"]["spec"]["containers"][0]["args"] += ["--clock", "events"]
        words = ("apply", "--server-side", "--force-conflicts", "--filename", "-")
        kubectl(*words, stdin=yaml.safe_dump_all(objects).encode())
        self.kubectl("rollout", "status", "deployment/tidegate-operator", "--timeout=240s")
        self.kubectl("wait", "--for=condition=Programmed", "--timeout=180s", "gateway/tidegate")
        assert wait_until(lambda: bool(self.leader()), 180, every=1.0), self.kubectl("get", "pods")

    def leader(self) -> str:
        """The operator's pod that leads (it has renewed its Lease just now), is ready and is found by the Service.

        Empty while there is none.
        """
        words = ("get", "pods", "--selector", f"{OPERATOR},{LEADS}", "--output", "json")
        found = json.loads(self.kubectl(*words))["items"]
        ready = [pod["metadata"]["name"] for pod in found if _is_ready(pod)]
        lease = self.kubectl("get", "lease", "tidegate-operator", "--ignore-not-found", "--output", "json")
        if not lease:
            return ""
        spec = json.loads(lease)["spec"]
        age = datetime.now(UTC) - datetime.fromisoformat(spec["renewTime"])
        return spec["holderIdentity"] if spec["holderIdentity"] in ready and age.total_seconds() < 3 * EVERY else ""

    @property
    def gateway(self) -> str:
        """The Gateway's address as a URL."""
        found = self.kubectl("get", "gateway", "tidegate", "--output", "jsonpath={.status.addresses[0].value}")
        return f"http://{found}:80"

    @property
    def token(self) -> str:
        found = self.kubectl("get", "secret", "tidegate-token", "--output", "jsonpath={.data.token}")
        return base64.b64decode(found).decode().strip()

    # --- asking -----------------------------------------------------------------------------------------------------

    def tidegate(self, *words: str, check: bool = True) -> str:
        """A command in the leader's pod."""
        return self.kubectl("exec", self.leader(), "--", "tidegate", *words, check=check)

    def start_tidegate(self, *words: str) -> subprocess.Popen[bytes]:
        """The same, not waited for."""
        command = (PROGRAM, "--namespace", NAMESPACE, "exec", self.leader(), "--", "tidegate", *words)
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def put(self, name: str, text: str) -> str:
        """A file in the leader's /tmp; its path there."""
        program = f"import sys; open('/tmp/{name}','wb').write(sys.stdin.buffer.read())"
        self.kubectl("exec", "--stdin", self.leader(), "--", "python", "-c", program, stdin=text.encode())
        return f"/tmp/{name}"

    def journal(self, model: str) -> list[Event]:
        """The model's events."""
        lines = self.tidegate("log", "--json", "--state", f"/state/{model}").splitlines()
        found = [json.loads(line) for line in lines]
        times = ({name: seconds(one[name], name) for name in ("time", "wall")} for one in found)
        events = [Event(**{**one, **time}) for one, time in zip(found, times, strict=True)]
        return [event for event in events if event.model == model]

    def state(self, model: str) -> ModelState:
        """The journal folded."""
        return fold(self.journal(model))

    def shown(self, kind: str, name: str) -> dict[str, Any]:
        """An object's status, empty where there is none."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "--output", "json")
        return json.loads(text).get("status", {}) if text else {}

    def until(self, reached: Callable[[], Any], timeout: float = 60, every: float = 0.5) -> None:
        """Wait for what kubectl shows."""
        assert wait_until(lambda: bool(reached()), timeout, every), self.kubectl("get", "models,releases,pods")

    def rows(self, model: str) -> tuple[int, int]:
        """(rows in the prediction log that answer users, rows of mirrored copies)."""
        program = f"""
from pathlib import Path
from tidegate.observations import Prediction, SegmentReader
rows = SegmentReader(Path("/state/{model}/observations/predictions")).read()
mine = [r.arm in (None, r.version) for r in rows if isinstance(r, Prediction)]
print(sum(mine), len(mine) - sum(mine))
"""
        own, copies = self.kubectl("exec", self.leader(), "--", "python", "-c", program).split()
        return int(own), int(copies)

    def process(self, pod: str, word: str) -> psutil.Process:
        """The process on this machine that runs `word` in a pod; the built cluster alone has it here."""
        uid = self.kubectl("get", "pod", pod, "--output", "jsonpath={.metadata.uid}")
        for process in psutil.process_iter(["cmdline"]):
            if word in (process.info["cmdline"] or []):
                groups = Path(f"/proc/{process.pid}/cgroup").read_text()
                if uid in groups or uid.replace("-", "_") in groups:
                    return process
        raise AssertionError(f"no process of pod {pod} runs {word}")


def _is_ready(pod: dict[str, Any]) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))
