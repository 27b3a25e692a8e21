"""The key pair: made on first use, or mounted; who has the public key alone verifies and cannot sign."""

import pytest

from tidegate.errors import PlatformError
from tidegate.register.models import public_key, sign


def test_a_pair_is_made_once(tmp_path):
    first = public_key(tmp_path)
    assert public_key(tmp_path) == first
    assert len(bytes.fromhex(sign("sha256:0", tmp_path))) == 64
    assert ((tmp_path / "keys/signing.key").stat().st_mode & 0o777) == 0o600


def test_the_public_key_alone_is_enough_to_verify_and_makes_no_other(tmp_path):
    mounted = tmp_path / "pod/keys"
    mounted.mkdir(parents=True)
    (mounted / "signing.pub").write_text(public_key(tmp_path / "signer").hex() + "\n")
    assert public_key(tmp_path / "pod") == public_key(tmp_path / "signer")
    assert [path.name for path in mounted.iterdir()] == ["signing.pub"]


def test_keys_that_can_be_neither_read_nor_made_are_one_line(tmp_path):
    (tmp_path / "keys").write_text("a file in the way")
    with pytest.raises(PlatformError, match=r"signing\.key: .*neither mounted nor can it be made"):
        sign("sha256:0", tmp_path)
