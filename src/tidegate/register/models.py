"""Model versions on disk: immutable folders by digest, signed. Does I/O."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.errors import PlatformError
from tidegate.ingest.disk import atomic_file
from tidegate.train.model_file import FILES, MANIFEST, SIGNATURE, check, folder_name, verify

if TYPE_CHECKING:
    from tidegate.spec import TrustSpec

_PRIVATE, _PUBLIC = "signing.key", "signing.pub"


def store_model(made: Path, digest: str, state: Path) -> Path:
    """Keep the files of the model folder `made` under ``STATE/models/<hex>/``, signed; returns that folder.

    Where the digest is there already its files stay. Raises PlatformError, naming the file, when those in `made` or
    those that are kept are not the files of `digest`.
    """
    check(made, digest)
    target = state / "models" / folder_name(digest)
    if not target.is_dir():
        _put(made, target, sign(digest, state))
    check(target, digest)
    return target


def fetch_model(store: str, digest: str, target: Path, public_keys: Sequence[bytes] = ()) -> Path:
    """Bring the files of `digest` from `store`, a folder of model versions at any place that fsspec reaches.

    They are checked, and with keys their signature is verified, before `target` appears. Raises PlatformError when a
    file is missing, is not the one that was registered or is not signed by one of the keys.
    """
    import fsspec

    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".model-", dir=target.parent))
    try:
        files, root = fsspec.url_to_fs(store)
        for name in (*FILES, MANIFEST, SIGNATURE):
            files.get_file(f"{root}/{folder_name(digest)}/{name}", str(folder / name))
        if public_keys:
            verify(folder, digest, public_keys)
        else:
            check(folder, digest)
        folder.chmod(0o755)
        folder.rename(target)
    except FileNotFoundError as error:
        raise PlatformError(f"{error.filename or error}: no such file") from None
    except OSError as error:
        raise PlatformError(f"{store}/{folder_name(digest)}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def profile_path(digest: str, state: Path) -> Path:
    """Where the profile of the data that model version `digest` was trained on stands."""
    return state / "profiles" / f"{folder_name(digest)}.json"


def store_profile(profile: Path, digest: str, state: Path) -> None:
    """Keep the profile of a version's data: the data gate holds newer rows against it while the version serves.

    The first one stays, as the version's files do: a step that was cached for this version stays right.
    """
    target = profile_path(digest, state)
    if not target.exists():
        with atomic_file(target) as made:
            shutil.copyfile(profile, made)


def _put(made: Path, target: Path, signature: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".model-", dir=target.parent))
    try:
        for name in (*FILES, MANIFEST):
            shutil.copyfile(made / name, folder / name)
        (folder / SIGNATURE).write_text(signature, encoding="ascii")
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o755)
        folder.rename(target)
    except OSError as error:
        if not target.is_dir():
            raise PlatformError(f"{target}: {error.strerror}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sign(digest: str, state: Path) -> str:
    """The Ed25519 signature over the digest's text, in hex, by the key of the state folder (made on first use)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(_private_key(state / "keys")).sign(digest.encode()).hex()


def trusted(trust: TrustSpec | None, state: Path) -> Sequence[str]:
    """The public keys whose signatures count, in hex: those of the Model file, else the state folder's own."""
    return trust.keys if trust else (public_key(state).hex(),)


def public_key(state: Path) -> bytes:
    """The 32 raw bytes that verify what this state folder signs; makes the key pair on first use.

    On a cluster ``STATE/keys`` is a mounted Secret, of which pods that only verify are given the public key alone.
    """
    path = state / "keys" / _PUBLIC
    if not path.is_file():
        _private_key(state / "keys")
    return bytes.fromhex(path.read_text(encoding="ascii"))


def _private_key(keys: Path) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = keys / _PRIVATE
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.is_file():
            _create(path, Ed25519PrivateKey.generate().private_bytes_raw().hex())
    except OSError as error:
        raise PlatformError(f"{path}: {error.strerror}; it is neither mounted nor can it be made") from None
    private = bytes.fromhex(path.read_text(encoding="ascii"))
    if not (keys / _PUBLIC).is_file():
        _create(keys / _PUBLIC, Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw().hex())
    return private


def _create(path: Path, text: str) -> None:
    """Write a 0600 file that is whole when it appears; where another process was first, its file stays."""
    descriptor, made = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    try:
        os.link(made, path)
    except FileExistsError:
        return
    finally:
        os.unlink(made)
