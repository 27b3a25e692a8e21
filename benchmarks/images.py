"""Tidegate's images, built twice from nothing: are they the same bytes, how large, how long does a build take?"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from benchmarks.results import CACHE, Budget, Result, say
from k8s.cluster import buildah, oci

WORK = CACHE / "images-benchmark"


def run() -> Result:
    """Each target from an empty store without any cache, twice; needs root, buildah and a package index."""
    rows, equal = [], True
    for target in buildah.TARGETS:
        builds = [_build(target) for _ in range(2)]
        digests = [digest for digest, _, _ in builds]
        equal = equal and len(set(digests)) == 1
        seconds = ", ".join(f"{took:.0f} s" for _, took, _ in builds)
        rows.append([target, *(digest[7:19] for digest in digests), f"{builds[0][2] / 1e6:.0f} MB", seconds])
    return Result(
        bench="images",
        title="both images built twice from an empty cache",
        columns=["image", "first digest", "second digest", "size", "seconds of the builds"],
        rows=rows,
        budgets=[Budget("equal digests", "equal", "equal" if equal else "not equal", equal)],
        notes=[
            "Twelve characters of the manifest's digest, which covers the configuration and the uncompressed layers.",
            "Each build starts from Debian's packages for the interpreter and from the lock file's wheels, downloaded.",
        ],
    )


def _build(target: str) -> tuple[str, float, int]:
    """(digest, seconds, bytes of the layers) of one build in a store of its own."""
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        began = time.monotonic()
        digest = buildah.build(target, WORK / "layout", store=WORK / "store", cache=False)
        took = time.monotonic() - began
        say(f"images: {target} in {took:.0f} s: {digest}")
        return digest, took, sum(_size(WORK / "layout", blob) for blob in oci.blobs_of(WORK / "layout"))
    finally:
        shutil.rmtree(WORK, ignore_errors=True)


def _size(layout: Path, digest: str) -> int:
    return oci.blob_path(layout, digest).stat().st_size
