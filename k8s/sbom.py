"""The software bill of materials of an image: locked Python packages and Debian's packages, as CycloneDX.

Same image, same text: it has neither a time nor a random number.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from k8s.cluster import oci

Json = dict[str, Any]
_STATUS = re.compile(r"^(\./)?var/lib/dpkg/status(\.d/[^/]+)?$")


def exported(containerfile: str, target: str) -> list[str]:
    """The options of ``uv export`` by which the Containerfile says what is in a target's image."""
    joined = containerfile.replace("\\\n", " ")
    (found,) = re.findall(rf"uv export --quiet ((?:(?!uv export).)*?) --output-file {target}\.txt", joined)
    return str(found).split()


def bill(locked: Mapping[str, Any], debian: Iterable[Mapping[str, str]], name: str, digest: str) -> Json:
    """CycloneDX 1.5 from uv's own for the locked packages, and stanzas of dpkg's status."""
    subject = {"type": "container", "bom-ref": f"{name}@{digest}", "name": name, "version": digest}
    found = [{key: one[key] for key in ("type", "bom-ref", "name", "version", "purl")} for one in _real(locked)]
    for one in debian:
        package, version = one["Package"], one["Version"]
        purl = f"pkg:deb/debian/{package}@{version}?arch={one['Architecture']}"
        found.append({"type": "library", "bom-ref": purl, "name": package, "version": version, "purl": purl})
    components = sorted({one["purl"]: one for one in found}.values(), key=lambda one: one["purl"])
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": subject},
            "components": components}  # fmt: skip


def debian_packages(layout: Path) -> list[dict[str, str]]:
    """What dpkg says is installed, in the image's uppermost layer that has its status."""
    files: dict[str, str] = {}
    manifest = json.loads(oci.blob_path(layout, oci.manifest_of(layout)["digest"]).read_text())
    for layer in manifest["layers"]:
        with tarfile.open(oci.blob_path(layout, layer["digest"]), "r:*") as tar:
            for member in tar:
                if member.isfile() and _STATUS.match(member.name) and (opened := tar.extractfile(member)):
                    files[member.name.removeprefix("./")] = opened.read().decode()
    return [one for text in files.values() for one in stanzas(text)]


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The packages of a dpkg status file that have a version."""
    for block in text.split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+): (.*)$", block, re.MULTILINE))
        if {"Package", "Version", "Architecture"} <= fields.keys() and "deinstall" not in fields.get("Status", ""):
            yield fields


def _real(locked: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Packages that come from a registry; extras and the project itself have no address."""
    return (one for one in locked["components"] if one.get("purl", "").startswith("pkg:pypi/"))
