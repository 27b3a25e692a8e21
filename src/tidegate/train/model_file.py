"""A model version's files: which there are, their digest, their check, their signature, and the feature schema.

Imports the standard library and numpy only, since serving, edges and the judge's tools read model versions with it.
Nothing here is executed from a file: JSON, ONNX and LightGBM's text are data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import PlatformError, UserError

FILES = ("feature_schema.json", "model.onnx", "model.txt", "reference.json")
"""What the digest covers."""

MANIFEST, SIGNATURE = "manifest.json", "signature"
TOLERANCE = 1e-5
"""How far a served score may be from the trained model's."""


@dataclass(frozen=True)
class Feature:
    """One input of the model; `categories[i]` has code i + 1, unknown and null have code 0."""

    name: str
    kind: Literal["numeric", "category"]
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class FeatureSchema:
    """Names, kinds and fixed category codes, in the order of the ONNX input."""

    features: tuple[Feature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in order."""
        return tuple(feature.name for feature in self.features)

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` over the schema's canonical JSON."""
        return sha256_text(self.dump())

    def dump(self) -> str:
        """The text of feature_schema.json."""
        plain = [
            {"name": f.name, "kind": f.kind, "categories": None if f.categories is None else list(f.categories)}
            for f in self.features
        ]
        return canonical_json({"features": plain})

    @classmethod
    def parse(cls, text: str | bytes) -> FeatureSchema:
        """The inverse of `dump`; UserError when a part is missing or of the wrong kind."""
        try:
            return cls(tuple(_feature(entry) for entry in json.loads(text)["features"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                "feature_schema.json", str(error), '{"features": [{"name", "kind", "categories"}]}'
            ) from None

    @classmethod
    def load(cls, folder: Path) -> FeatureSchema:
        """Read it from a model folder."""
        return cls.parse((folder / "feature_schema.json").read_bytes())

    def codes(self) -> tuple[dict[str, int] | None, ...]:
        """For each feature its category codes, None where it is numeric."""
        return tuple(
            {value: code for code, value in enumerate(f.categories or (), 1)} if f.kind == "category" else None
            for f in self.features
        )

    def encode_row(self, row: Mapping[str, Any]) -> list[float]:
        """One row as F floats; a feature that is absent counts as null. UserError names a value of the wrong kind."""
        return [_encode(f, codes, row.get(f.name)) for f, codes in zip(self.features, self.codes(), strict=True)]

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
        """Rows as float32 [N, F]: numeric null is NaN, a category its code."""
        codes = self.codes()
        encoded = np.empty((len(rows), len(self.features)), np.float32)
        for column, (feature, lookup) in enumerate(zip(self.features, codes, strict=True)):
            encoded[:, column] = [_encode(feature, lookup, row.get(feature.name)) for row in rows]
        return encoded

    def encode_frame(self, frame: Any) -> NDArray[np.float32]:
        """A polars DataFrame with the features as columns, as float32 [N, F]; equal to `encode` of its rows."""
        encoded = np.empty((frame.height, len(self.features)), np.float32)
        for column, (feature, codes) in enumerate(zip(self.features, self.codes(), strict=True)):
            if feature.name not in frame.columns:
                raise UserError("features", sorted(frame.columns), f"a column {feature.name}")
            encoded[:, column] = _encode_series(frame[feature.name], codes)
        return encoded


def _feature(entry: Mapping[str, Any]) -> Feature:
    kind, categories = entry["kind"], entry["categories"]
    if kind not in ("numeric", "category") or (kind == "category") != isinstance(categories, list):
        raise ValueError(f"feature {entry['name']}: kind {kind!r} with categories {categories!r}")
    return Feature(str(entry["name"]), kind, None if categories is None else tuple(map(str, categories)))


def _encode(feature: Feature, codes: Mapping[str, int] | None, value: Any) -> float:
    if codes is not None:
        return float(codes.get(value, 0)) if isinstance(value, str) else 0.0
    if value is None:
        return float("nan")
    if isinstance(value, (int, float)):
        return float(value)
    raise UserError(f"feature {feature.name}", value, "a number or null")


def _encode_series(series: Any, codes: Mapping[str, int] | None) -> Any:
    if codes is None:
        return series.cast(float).to_numpy().astype(np.float32)
    known = series.replace_strict(list(codes), list(codes.values()), default=0) if codes else series.is_null() & False
    return known.fill_null(0).to_numpy().astype(np.float32)


def canonical_json(data: object) -> str:
    """JSON with sorted keys and no spaces: the same value gives the same bytes."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """``sha256:<hex>`` of a text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file in hex; PlatformError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PlatformError(f"{path}: {error.strerror}") from None


def file_hashes(folder: Path) -> dict[str, str]:
    """sha256 hex of each of `FILES`; PlatformError names one that is missing."""
    return {name: sha256_file(folder / name) for name in FILES}


def digest_of(folder: Path) -> str:
    """``sha256:<hex>`` over the canonical JSON {file name: sha256 hex} of `FILES`."""
    return sha256_text(canonical_json(file_hashes(folder)))


def check(folder: Path, digest: str) -> None:
    """Raise PlatformError, naming the file, unless `folder` holds the files of `digest`."""
    found = file_hashes(folder)
    actual = sha256_text(canonical_json(found))
    if actual == digest:
        return
    wanted = _manifest(folder).get("files", {})
    changed = [name for name in FILES if wanted.get(name) != found[name]] or [MANIFEST]
    raise PlatformError(f"{folder / changed[0]}: not the file that was registered; digest {actual}, expected {digest}")


def write_manifest(folder: Path) -> str:
    """Write manifest.json for the files in `folder`; returns their digest."""
    hashes = file_hashes(folder)
    digest = sha256_text(canonical_json(hashes))
    (folder / MANIFEST).write_text(canonical_json({"digest": digest, "files": hashes}), encoding="utf-8")
    return digest


def folder_name(digest: str) -> str:
    """``sha256:<hex>`` -> ``<hex>``, the name of the folder under models/; UserError on anything else."""
    kind, _, name = digest.partition(":")
    if kind != "sha256" or len(name) != 64 or set(name) - set("0123456789abcdef"):
        raise UserError("digest", digest, "sha256: and 64 hex digits")
    return name


def verify(folder: Path, digest: str, public_keys: Iterable[bytes]) -> None:
    """`check`, then the signature over the digest's text by one of `public_keys` (32 raw bytes each, Ed25519).

    Raises PlatformError when a file, the digest or the signature is not right.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    check(folder, digest)
    try:
        signature = bytes.fromhex((folder / SIGNATURE).read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        raise PlatformError(f"{folder / SIGNATURE}: no signature in hex") from None
    for key in public_keys:
        try:
            return Ed25519PublicKey.from_public_bytes(key).verify(signature, digest.encode())
        except (InvalidSignature, ValueError):
            continue
    raise PlatformError(f"{folder / SIGNATURE}: not signed by a trusted key")


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
