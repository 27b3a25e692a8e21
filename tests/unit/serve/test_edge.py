"""The pure parts of an edge: signatures, which bundle is taken, what a request says, what the head is."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_models import SCHEMA

from tidegate.errors import UserError
from tidegate.observations import Prediction
from tidegate.serve.by_key import Fields as Asking
from tidegate.serve.decoder import Decoder
from tidegate.serve.edge import bundle
from tidegate.serve.edge.asked import entity, parse
from tidegate.serve.edge.bundle import Bundle, Fields, File, Manifest, parse_bundle, why_not
from tidegate.serve.edge.ed25519 import verify
from tidegate.serve.edge_head import head_of, own
from tidegate.serve.rows import matrix
from tidegate.train.model_file import FeatureSchema

TINY = FeatureSchema.parse(json.dumps(SCHEMA))
FIELDS = Fields(("tail", "carrier"), ("dep hour",))
RFC_8032 = [
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
]  # fmt: skip
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(3)]
PUBLIC = [key.public_key().public_bytes_raw().hex() for key in KEYS]


@pytest.mark.parametrize(("public", "message", "signature"), RFC_8032)
def test_signatures_of_the_standard_are_right(public, message, signature):
    assert verify(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))
    assert not verify(bytes.fromhex(public), b"x", bytes.fromhex(signature))


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511), st.integers(0, 2))
def test_what_the_library_signed_is_taken_and_one_changed_bit_is_not(seed, message, bit, where):
    key = Ed25519PrivateKey.from_private_bytes(seed)
    parts = [key.public_key().public_bytes_raw(), message, key.sign(message)]
    assert verify(*parts)
    if parts[where]:
        changed = bytearray(parts[where])
        changed[bit // 8 % len(changed)] ^= 1 << bit % 8
        assert not verify(*parts[:where], bytes(changed), *parts[where + 1 :])


def test_a_second_signature_of_the_same_text_by_adding_the_order_is_refused():
    message, key = b"m", KEYS[0]
    signature = key.sign(message)
    order = 2**252 + 27742317777372353535851937790883648493
    other = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert not verify(key.public_key().public_bytes_raw(), message, other)


def manifest(sequence: int = 5, created: float = 50.0, keys=(0,), **changed) -> Manifest:
    files = {name: File("ab" * 32, 3) for name in bundle.FILES}
    made = Manifest("m", "v1", "sha256:a", "sha256:a", sequence, created, 60.0, tuple(PUBLIC[k] for k in keys), files)
    return replace(made, **changed)


def signed(found: Manifest, key: int = 0) -> Bundle:
    text = found.dump()
    return Bundle(found, text, KEYS[key].sign(bundle.to_sign(text).encode()).hex())


@pytest.mark.parametrize(
    ("offered", "key", "reason"),
    [
        (manifest(6, 60.0), 0, ""),
        (manifest(6, 50.0, keys=(0, 1)), 0, ""),
        (manifest(6, 60.0), 1, bundle.UNLISTED),
        (manifest(6, 60.0, keys=(1,)), 1, bundle.UNLISTED),
        (manifest(6, 60.0, model="other"), 0, bundle.OTHER_MODEL),
        (manifest(), 0, bundle.SAME),
        (manifest(4, 60.0), 0, bundle.OLDER),
        (manifest(5, 60.0), 0, bundle.OLDER),
        (manifest(6, 49.0), 0, bundle.OLDER),
    ],
)
def test_which_bundle_is_taken(offered, key, reason):
    assert why_not(signed(offered, key), manifest(), floor=5) == reason


def test_a_floor_above_what_is_installed_still_keeps_older_ones_out_and_lets_the_same_back_in():
    assert why_not(signed(manifest(6, 60.0)), manifest(), floor=7) == bundle.OLDER
    assert why_not(signed(manifest(7, 60.0)), manifest(), floor=7) == ""
    offered = signed(manifest(6, 60.0))
    assert why_not(offered, manifest(), 5, {offered.name}) == bundle.REFUSED_BEFORE


def test_two_keys_at_once_let_one_replace_the_other():
    steps = [((0, 1), 0), ((1,), 1), ((1, 2), 1), ((2,), 2)]
    installed = manifest()
    for number, (keys, key) in enumerate(steps):
        offered = manifest(6 + number, 60.0, keys)
        assert why_not(signed(offered, key), installed, installed.sequence) == ""
        installed = offered
    assert why_not(signed(manifest(20, 70.0), 0), installed, 9) == bundle.UNLISTED
    assert why_not(signed(manifest(20, 70.0), 1), installed, 9) == bundle.UNLISTED


def test_a_bundle_is_read_as_it_was_written_and_nonsense_is_refused():
    whole = signed(manifest(fields=FIELDS, trees=7, quality={"rows": 3}, head={"answers": 2}))
    assert parse_bundle(whole.dump()) == whole
    for text in (
        b"",
        b"[]",
        b"{}",
        b'{"manifest":"{}","signature":"00"}',
        b'{"manifest":"{}","signature":"zz"}',
        b"\xff",
    ):
        with pytest.raises(UserError, match=r"bundle\.json"):
            parse_bundle(text)
    plain = json.loads(whole.text)
    for change in ({"format": 2}, {"more": 1}, {"files": {"../x": {"sha256": "ab", "bytes": 1}}}, {"keys": ["ab"]}):
        text = json.dumps({"manifest": json.dumps({**plain, **change}), "signature": "00"})
        with pytest.raises(UserError):
            parse_bundle(text.encode())


@pytest.mark.parametrize(("now", "newest", "age"), [(80.0, 0.0, 30.0), (10.0, 0.0, 0.0), (10.0, 90.0, 40.0)])
def test_a_clock_set_back_makes_nothing_younger(now, newest, age):
    assert bundle.age(manifest(), now, newest) == age


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just([]) | st.just(1e39)
ENTRY = st.dictionaries(st.sampled_from(["distance", "carrier", "dep hour", "tail", "x"]), VALUES, max_size=4)
BODY = st.fixed_dictionaries(
    {},
    optional={"rows": st.lists(ENTRY, max_size=3) | VALUES, "keys": st.lists(ENTRY, max_size=3) | VALUES, "y": VALUES},
)


@settings(max_examples=400, deadline=None)
@given(BODY.map(json.dumps) | st.text(max_size=20), st.booleans())
@example('{"rows":[{"distance":1e400}]}', False)
@example('{"rows":[{"distance":NaN}]}', False)
@example("[" * 100_000, False)
@example('{"keys":[{"tail":null,"carrier":"AA","dep hour":3}]}', True)
@example('{"keys":null,"rows":[{}]}', True)
def test_a_request_is_taken_or_refused_as_the_service_does_it(body, by_key):
    """The service's compiled decoder is the reference."""
    decoder = Decoder(TINY, fields=Asking(FIELDS.keys, FIELDS.inputs) if by_key else None)
    text = body.encode("utf-8", "surrogatepass")
    try:
        reference = decoder.decode(text)
    except UserError as refused:
        with pytest.raises(UserError) as mine:
            parse(text, TINY, FIELDS if by_key else None)
        if refused.thing.startswith(("rows[", "keys[")):
            assert mine.value.thing.startswith(("rows[", "keys[", "body"))
        return
    found = parse(text, TINY, FIELDS if by_key else None)
    if reference.keys is not None:
        assert found.keys == reference.keys
    else:
        np.testing.assert_array_equal(TINY.encode(found.rows), matrix([reference.rows]))


def prediction(number: int, features: list, keys: dict | None = None) -> Prediction:
    return Prediction(f"{number}/0", float(number), 0.0, "v1", "d", None, None, None, 0.5, False, 1.0, features, keys)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=80), st.integers(0, 6), st.booleans())
def test_the_head_is_what_a_count_by_hand_gives_with_the_newest_features(asked, count, by_key):
    rows = [
        prediction(n, [0.5 if by_key else k / 4, "AA", float(k)], {"tail": str(k), "carrier": "AA"} if by_key else None)
        for n, k in enumerate(asked)
    ]
    if by_key:
        rows = [replace_features(row, number) for number, row in enumerate(rows)]
    head = head_of(rows, TINY, FIELDS, count)
    by_hand = Counter(asked).most_common()
    assert [one.count for one in head.wanted] == [c for _, c in by_hand][:count]
    assert head.covered == sum(one.count for one in head.wanted)
    assert head.requests == len(asked)
    for one in head.wanted:
        k = int(one.features[2])
        newest = max(n for n, other in enumerate(asked) if other == k)
        assert one.features == rows[newest].features
        wanted = entity(FIELDS, {"tail": str(k), "carrier": "AA", "dep hour": float(k)}) if by_key else None
        assert one.asked == (wanted or TINY.encode([dict(zip(TINY.names, one.features, strict=True))]).tobytes())


def replace_features(row: Prediction, number: int) -> Prediction:
    """Looked-up features move on between two requests of one entity."""
    return msgspec.structs.replace(row, features=[float(number), *row.features[1:]])


def test_only_what_was_answered_once_and_kept_its_features_counts():
    good = prediction(1, [1.0, "AA", 2.0])
    others = {"arm": "v2"}, {"score": None}, {"endpoint": "rank"}, {"features": []}, {"version": "v9"}
    rows = [good, *(msgspec.structs.replace(good, **changed) for changed in others)]
    assert own(rows, {"v1"}, 3) == [good]
    assert own([msgspec.structs.replace(good, arm="v1")], {"v1"}, 3)
