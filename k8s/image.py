"""``python -m k8s.image build TARGET --out DIR``: an image as an OCI layout, and its bill of materials beside it.

Without a registry the base is made from Debian's packages, as for the test cluster; with ``--pull`` it is the one that
the Containerfile names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from k8s.cluster import buildah, images, oci
from k8s.cluster.commands import run
from k8s.cluster.places import CLONE
from k8s.sbom import bill, debian_packages, exported
from tidegate.errors import TidegateError


def main(words: list[str] | None = None) -> int:
    """Exit status 0; 2 with one line when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m k8s.image", description=__doc__)
    parser.add_argument("verb", choices=["build"])
    parser.add_argument("target", choices=buildah.TARGETS)
    parser.add_argument("--out", type=Path, required=True, help="gets TARGET/, the layout, and TARGET.cdx.json")
    parser.add_argument("--pull", action="store_true", help="take the base from its registry")
    parser.add_argument("--cache", default="", help="with --pull: a repository of layers to read and write")
    given = parser.parse_args(words)
    try:
        layout = given.out / given.target
        layout.parent.mkdir(parents=True, exist_ok=True)
        base: dict[str, str] = {}
        if given.pull:
            pulled(given.target, layout, given.cache)
        else:
            with images.alone():
                buildah.build(given.target, layout)
                base = buildah.base_packages()
        digest = oci.manifest_of(layout)["digest"]
        (given.out / f"{given.target}.cdx.json").write_text(
            json.dumps(written(given.target, layout, base), indent=1) + "\n"
        )
    except TidegateError as error:
        print(f"image: {error}", file=sys.stderr)
        return error.exit_status
    print(digest)
    return 0


def pulled(target: str, layout: Path, cache: str) -> None:
    """Build on the base from the registry, as whoever calls; unlike without it layers are compressed."""
    name = f"localhost/tidegate/{target}:build"
    layers = ("--layers", *(("--cache-from", cache, "--cache-to", cache) if cache else ()))
    what = ("--timestamp", "0", "--target", target, "--tag", name)
    files = ("--file", buildah.FILE, "--ignorefile", f"{buildah.FILE}.dockerignore")
    run("buildah", "build", *layers, *what, *files, CLONE)
    run("buildah", "push", "--format", "oci", name, f"oci:{layout.absolute()}")


def written(target: str, layout: Path, base: Mapping[str, str] | None = None) -> dict[str, object]:
    """The bill of the image in the layout; `base`: versions of Debian's packages, where no dpkg in the image tells."""
    machine = oci.architecture()
    told = [{"Package": name, "Version": version, "Architecture": machine} for name, version in (base or {}).items()]
    options = exported(buildah.FILE.read_text(), target)
    uv = Path(sys.executable).with_name("uv")
    words = ("--quiet", *options, "--format", "cyclonedx1.5", "--preview-features", "sbom-export")
    locked = json.loads(run(uv, "export", *words, cwd=CLONE))
    name = f"tidegate/{target}"
    return bill(locked, told or debian_packages(layout), name, oci.manifest_of(layout)["digest"])


if __name__ == "__main__":
    sys.exit(main())
