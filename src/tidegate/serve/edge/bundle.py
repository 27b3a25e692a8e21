"""What an edge is given: a signed manifest that names files by their hashes; and which one it may take. Pure.

Rules, asked in this order; the first that is broken is the reason.
1. It is signed by a key of the list in force: that of the bundle installed, for the first one that of the folder.
2. It is for this model.
3. It is newer than every bundle that ever answered here: a larger sequence number, and not made earlier.
4. It was not refused before, byte for byte.
A bundle brings the list of keys that is in force after it; two at once let one replace the other.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.errors import UserError
from tidegate.serve.edge.ed25519 import verify
from tidegate.train.model_file import canonical_json, sha256_text

FILES = ("feature_schema.json", "head.db", "model.onnx", "reference.json")
"""What a bundle holds; a manifest names exactly these."""

FORMAT = 1
MOST_BYTES = 2**20
"""Of the text of a bundle."""

_SIGNED = "tidegate edge bundle\n"
"""Stands before what is signed, so that a model version's signature is never a bundle's."""

UNLISTED = "signed by a key that is not listed"
OTHER_MODEL = "for another model"
OLDER = "older than a bundle that was installed"
SAME = "installed already"
REFUSED_BEFORE = "refused before"


@dataclass(frozen=True)
class File:
    """One file of a bundle: SHA-256 in hex, and size."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Fields:
    """What an entry of ``"keys"`` holds: the entity keys, and the inputs of the request."""

    keys: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """A bundle in words. Times are seconds since the epoch."""

    model: str
    version: str
    digest: str
    """Of what answers: the model version's own, or where it was reduced that of the reduced one."""
    source: str
    """Digest of the model version that it was made of."""
    sequence: int
    created: float
    max_age: float
    """Seconds after `created` from which nothing is answered any more."""
    keys: tuple[str, ...]
    """Public keys in hex whose bundles are taken from now on."""
    files: Mapping[str, File]
    fields: Fields | None = None
    """None: nothing is answered by key."""
    retain: bool = True
    """False: observations hold no features."""
    trees: int | None = None
    """How many of the model's trees were kept; None: all."""
    quality: Mapping[str, Any] | None = None
    """What keeping fewer trees costs."""
    head: Mapping[str, Any] = field(default_factory=dict)
    """Of the precomputed answers: ``answers``, ``share`` of the logged requests that they cover, ``until``."""

    def dump(self) -> str:
        """The text that is signed."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["files"] = {name: vars(one) for name, one in self.files.items()}
        plain["fields"] = self.fields and {"keys": list(self.fields.keys), "inputs": list(self.fields.inputs)}
        return canonical_json({**plain, "keys": list(self.keys), "format": FORMAT})


@dataclass(frozen=True)
class Bundle:
    """A manifest with the text that was signed, and the signature in hex."""

    manifest: Manifest
    text: str
    signature: str

    @property
    def name(self) -> str:
        """``sha256:<hex>`` of the signed text."""
        return sha256_text(self.text)

    def dump(self) -> bytes:
        """The bytes of bundle.json."""
        return canonical_json({"manifest": self.text, "signature": self.signature}).encode()

    def signed_by(self, keys: Iterable[str]) -> bool:
        """Whether one of these public keys (hex) signed it."""
        message = to_sign(self.text).encode()
        return any(verify(bytes.fromhex(key), message, bytes.fromhex(self.signature)) for key in keys)


def to_sign(text: str) -> str:
    """What the signature of a manifest's text is over."""
    return _SIGNED + text


def parse_bundle(content: bytes) -> Bundle:
    """The inverse of `Bundle.dump`; UserError says what is wrong with it."""
    try:
        found = json.loads(content)
        text, signature = found["manifest"], found["signature"]
        bytes.fromhex(signature)
        return Bundle(_manifest(json.loads(text)), text, signature)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("bundle.json", f"{type(error).__name__}: {error}"[:120], "a bundle of format 1") from None


def _manifest(plain: dict[str, Any]) -> Manifest:
    if plain.pop("format") != FORMAT:
        raise ValueError("another format")
    files = {name: File(str(one["sha256"]), int(one["bytes"])) for name, one in plain.pop("files").items()}
    if tuple(sorted(files)) != FILES or any(set(one.sha256) - set("0123456789abcdef") for one in files.values()):
        raise ValueError("other files")
    fields, keys = plain.pop("fields"), tuple(plain.pop("keys"))
    if any(len(bytes.fromhex(key)) != 32 for key in keys):
        raise ValueError("a key that is not 32 bytes")
    asked = fields and Fields(tuple(fields["keys"]), tuple(fields["inputs"]))
    sequence, created, max_age = int(plain.pop("sequence")), float(plain.pop("created")), float(plain.pop("max_age"))
    return Manifest(files=files, fields=asked, keys=keys, sequence=sequence, created=created, max_age=max_age, **plain)


def why_not(offered: Bundle, installed: Manifest, floor: int, refused: Collection[str] = ()) -> str:
    """Why an edge with `installed` does not take `offered`; empty when it does.

    `floor`: the largest sequence number that ever answered here; above that of `installed` only where its files were
    damaged since. `refused`: names of bundles that failed.
    """
    new = offered.manifest
    if not offered.signed_by(installed.keys):
        return UNLISTED
    if new.model != installed.model:
        return OTHER_MODEL
    if new == installed:
        return SAME
    if new.sequence <= installed.sequence or new.sequence < floor or new.created < installed.created:
        return OLDER
    return REFUSED_BEFORE if offered.name in refused else ""


def age(manifest: Manifest, now: float, newest: float = 0.0) -> float:
    """Seconds since it was made; `newest`: the newest time seen here: a clock set back makes nothing younger."""
    return max(now, newest, manifest.created) - manifest.created
