"""A model version's files: encoding, digest, check and signature."""

import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import PlatformError, UserError
from tidegate.register.models import public_key, store_model
from tidegate.train.model_file import (
    FILES,
    Feature,
    FeatureSchema,
    check,
    digest_of,
    file_hashes,
    folder_name,
    verify,
    write_manifest,
)

SCHEMA = FeatureSchema(
    (Feature("carrier", "category", ("AA", "UA")), Feature("hour", "numeric"), Feature("dest", "category", ()))
)
values = st.fixed_dictionaries(
    {
        "carrier": st.sampled_from(["AA", "UA", "zz", "", None]),
        "hour": st.none() | st.floats(width=32, allow_nan=False),
        "dest": st.sampled_from(["ATL", None]),
    }
)


@given(st.lists(values, max_size=20))
def test_rows_and_frames_are_encoded_alike(rows):
    frame = pl.DataFrame(rows, schema={"carrier": pl.String, "hour": pl.Float64, "dest": pl.String})
    one_by_one = np.array([SCHEMA.encode_row(row) for row in rows], np.float32).reshape(-1, 3)
    np.testing.assert_array_equal(SCHEMA.encode(rows), one_by_one)
    np.testing.assert_array_equal(SCHEMA.encode_frame(frame), one_by_one)


def test_unknown_and_null_categories_have_code_0_and_null_numbers_are_nan():
    assert [SCHEMA.encode_row({"carrier": c})[0] for c in ("AA", "UA", "B6", None)] == [1.0, 2.0, 0.0, 0.0]
    assert math.isnan(SCHEMA.encode_row({})[1])


def test_a_number_of_the_wrong_kind_is_named():
    with pytest.raises(UserError, match="feature hour: got 'noon'"):
        SCHEMA.encode([{"hour": "noon"}])


def test_the_schema_reads_back_and_a_broken_one_is_refused():
    assert FeatureSchema.parse(SCHEMA.dump()) == SCHEMA
    for text in ("{}", "[]", '{"features": [{"name": "a", "kind": "category", "categories": null}]}', "{"):
        with pytest.raises(UserError, match=r"feature_schema\.json"):
            FeatureSchema.parse(text)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    for name in FILES:
        (made / name).write_text(f"{name} of this version")
    write_manifest(made)
    return made


def test_the_digest_is_that_of_the_files_hashes(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == {"digest": digest_of(folder), "files": file_hashes(folder)}
    check(folder, manifest["digest"])


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_by_its_file(folder, name):
    digest = digest_of(folder)
    content = bytearray((folder / name).read_bytes())
    content[3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(PlatformError, match=name):
        check(folder, digest)
    (folder / name).unlink()
    with pytest.raises(PlatformError, match=name):
        check(folder, digest)


def test_a_stored_version_is_signed_and_another_key_is_not_trusted(folder, tmp_path):
    stored = store_model(folder, digest_of(folder), tmp_path / "state")
    digest = digest_of(folder)
    assert stored.name == folder_name(digest)
    verify(stored, digest, [bytes(32), public_key(tmp_path / "state")])
    with pytest.raises(PlatformError, match="not signed by a trusted key"):
        verify(stored, digest, [public_key(tmp_path / "other")])
    (stored / "signature").chmod(0o644)
    (stored / "signature").write_text("zz")
    with pytest.raises(PlatformError, match="no signature"):
        verify(stored, digest, [public_key(tmp_path / "state")])


def test_the_private_key_is_for_its_owner_only(folder, tmp_path):
    store_model(folder, digest_of(folder), tmp_path)
    assert (tmp_path / "keys" / "signing.key").stat().st_mode & 0o777 == 0o600


def test_a_digest_is_not_a_path():
    for digest in ("sha256:../../etc", "md5:" + "0" * 64, "0" * 64, "sha256:" + "A" * 64):
        with pytest.raises(UserError, match="64 hex digits"):
            folder_name(digest)
