"""Two replies -> the list that goes out: credit, scores, and whose fault it was when there is nothing to mix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import UserError
from tidegate.release.interleave import by_rank, team_draft
from tidegate.serve.lists import Reply, rows_of, side_of
from tidegate.serve.mix import mix
from tidegate.serve.openapi import RankedRow

VERSIONS = ("v1", "v2")


def reply(ranks, base=0.0, took=4.0) -> Reply:
    """A list; each row's score tells its model and its item."""
    return Reply(200, b"", [RankedRow(base + item / 100, rank) for item, rank in enumerate(ranks)], took, "sha256:d")


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(*[st.permutations(range(1, n + 1))] * 2)), st.text(min_size=1))
def test_a_row_has_the_score_of_the_model_it_is_credited_to(pair, request_id):
    found = mix((reply(pair[0]), reply(pair[1], base=10.0)), VERSIONS, request_id)
    drafted = team_draft(by_rank(pair[0]), by_rank(pair[1]), request_id)
    assert [row.rank for row in found.rows] == [one.rank for one in found.shown] == drafted.ranks()
    assert [one.credit for one in found.shown] == [VERSIONS[owner] for owner in drafted.owners()]
    for item, (row, one) in enumerate(zip(found.rows, found.shown, strict=True)):
        assert row.score == (10.0 if one.credit == "v2" else 0.0) + item / 100
        assert (one.item, one.took) == (item, (4.0, 4.0))
    assert found.named == 0


@pytest.mark.parametrize(
    ("champion", "challenger", "named", "took"),
    [
        (reply([2, 1]), Reply(), 0, (4.0, None)),
        (Reply(500), reply([2, 1]), 1, (None, 4.0)),
        (reply([2, 1]), reply([1, 2, 3]), 0, (4.0, None)),
    ],
    ids=["no answer", "failed", "another number of rows"],
)
def test_one_list_alone_goes_out_as_it_is_and_is_credited_to_nobody(champion, challenger, named, took):
    found = mix((champion, challenger), VERSIONS, "q")
    assert (found.named, [row.rank for row in found.rows]) == (named, [2, 1])
    assert {(one.credit, one.took) for one in found.shown} == {(None, took)}


def test_without_a_list_there_is_nothing_to_mix():
    assert mix((Reply(500), Reply()), VERSIONS, "q") is None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model":"m","rows":[{"score":1,"rank":2}]}', b'{"rows":[]}', b"\xff"])
def test_an_answer_that_is_no_list_is_none(body):
    assert rows_of(body) is None


def test_a_side_is_a_version_and_the_places_of_its_replicas_in_turn():
    side = side_of("v1.1=8001,10.0.0.2:8002")
    assert [side.next_url() for _ in range(3)] == [
        "http://127.0.0.1:8001/rank", "http://10.0.0.2:8002/rank", "http://127.0.0.1:8001/rank"
    ]  # fmt: skip
    for wrong in ("v1", "=8001", "v1=", "v1=host:port"):
        with pytest.raises(UserError, match="takes VERSION=PORT"):
            side_of(wrong)
