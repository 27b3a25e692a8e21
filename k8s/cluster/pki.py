"""Keys, certificates and kubeconfigs. One authority signs everything: right for a test node and nothing else."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from k8s.cluster.places import ADDRESS, API, CONF, KUBECONFIG, NODE_NAME, PKI, SERVICE_API

_API_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
_CLIENTS = {
    "admin": ("admin", "system:masters"),
    "apiserver-kubelet": ("apiserver-kubelet", "system:masters"),
    "front-proxy": ("front-proxy", None),
    "kcm": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "proxy": ("system:kube-proxy", None),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
}
"""Common name and organisation (the group) of each client, by the name of its files."""


def make() -> None:
    """Write what is missing under `PKI`, the kubeconfigs under `CONF` and the administrator's `KUBECONFIG`."""
    PKI.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (PKI / "ca.crt").exists():
        _write_pair("ca", _key(), None, "tidegate-test-cluster", None, ())
    if not (PKI / "sa.pub").exists():
        _service_account_keys()
    _issue("apiserver", "kube-apiserver", None, (*_API_NAMES, SERVICE_API, ADDRESS))
    _issue("kubelet-server", NODE_NAME, None, (NODE_NAME, ADDRESS))
    for name, (common, group) in _CLIENTS.items():
        _issue(name, common, group, ())
    for name in ("kcm", "scheduler", "proxy", "kubelet"):
        _kubeconfig(name, CONF / f"{name}.kubeconfig")
    _kubeconfig("admin", KUBECONFIG)


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _issue(name: str, common: str, group: str | None, names: tuple[str, ...]) -> None:
    if (PKI / f"{name}.crt").exists():
        return
    signer = serialization.load_pem_private_key((PKI / "ca.key").read_bytes(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is an elliptic curve's")
    _write_pair(name, _key(), signer, common, group, names)


def _write_pair(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey | None,
    common: str,
    group: str | None,
    names: tuple[str, ...],
) -> None:
    """The certificate is written last: where it is, the key is."""
    subject = _name(common, group)
    issuer = subject if signer is None else x509.load_pem_x509_certificate((PKI / "ca.crt").read_bytes()).subject
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + datetime.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    )
    if signer is not None:
        uses = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        made = made.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    if names:
        made = made.add_extension(x509.SubjectAlternativeName([_alternative(one) for one in names]), critical=False)
    _secret(PKI / f"{name}.key", _private(key))
    certificate = made.sign(signer or key, hashes.SHA256())
    _secret(PKI / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _name(common: str, group: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, group), *parts] if group else parts)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _service_account_keys() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _secret(PKI / "sa.key", _private(key))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _secret(PKI / "sa.pub", public)


def _private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _kubeconfig(name: str, path: Path) -> None:
    def data(file: str) -> str:
        return base64.b64encode((PKI / file).read_bytes()).decode()

    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tidegate",
        "clusters": [{"name": "tidegate", "cluster": {"server": API, "certificate-authority-data": data("ca.crt")}}],
        "contexts": [{"name": "tidegate", "context": {"cluster": "tidegate", "user": name}}],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": data(f"{name}.crt"),
                    "client-key-data": data(f"{name}.key"),
                },
            }
        ],
    }
    _secret(path, json.dumps(document, indent=1).encode())


def _secret(path: Path, content: bytes) -> None:
    """Written beside its place and renamed, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    beside.replace(path)
