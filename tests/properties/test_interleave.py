"""Team draft: against a naive reference, and fair by exact enumeration of all coins."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.release import interleave
from tidegate.release.interleave import CHALLENGER, CHAMPION, by_rank, coins, credit, team_draft


@st.composite
def rankings(draw):
    size = draw(st.integers(0, 12))
    return draw(st.permutations(range(size))), draw(st.permutations(range(size)))


seeds = st.text(min_size=1, max_size=40)


def naive(champion, challenger, starts):
    """The rules, word by word: lists that shrink."""
    lists, order, owner = (list(champion), list(challenger)), [], []
    for first in starts:
        for side in (first, 1 - first):
            if lists[side]:
                best = lists[side][0]
                order.append(best)
                owner.append(side)
                for one in lists:
                    one.remove(best)
    return order, owner


@given(rankings(), seeds)
def test_it_is_the_naive_draft(pair, seed):
    mixed = team_draft(*pair, seed)
    order, owner = naive(*pair, coins(seed, (len(pair[0]) + 1) // 2))
    assert (list(mixed.order), list(mixed.owner)) == (order, owner)


@given(rankings(), seeds)
def test_every_shown_item_is_credited_to_exactly_one_model_and_the_teams_are_even(pair, seed):
    mixed, size = team_draft(*pair, seed), len(pair[0])
    assert sorted(mixed.order) == list(range(size)) == sorted(by_rank(mixed.ranks()))
    assert len(mixed.owner) == size
    assert set(mixed.owner) <= {CHAMPION, CHALLENGER}
    for start in range(0, size - 1, 2):
        assert {*mixed.owner[start : start + 2]} == {CHAMPION, CHALLENGER}, "a round gives each side one item"
    assert [mixed.owner[mixed.order.index(item)] for item in range(size)] == mixed.owners()
    assert [mixed.order[rank - 1] for rank in mixed.ranks()] == list(range(size))


@given(rankings(), seeds, seeds)
def test_randomness_comes_from_the_seed_alone(pair, seed, other):
    assert team_draft(*pair, seed) == team_draft(*pair, seed)
    rounds = (len(pair[0]) + 1) // 2
    if coins(seed, rounds) == coins(other, rounds):
        assert team_draft(*pair, seed) == team_draft(*pair, other)


@given(rankings(), st.data())
def test_first_picks_are_symmetric(pair, data):
    """Swapping the rankings and turning every coin swaps the owners and nothing else."""
    rounds = (len(pair[0]) + 1) // 2
    starts = data.draw(st.lists(st.integers(0, 1), min_size=rounds, max_size=rounds))
    order, owner = naive(*pair, starts)
    swapped, owners = naive(pair[1], pair[0], [1 - first for first in starts])
    assert order == swapped
    assert owner == [1 - side for side in owners]


@given(st.permutations(range(7)), st.lists(st.sampled_from([0.0, 1.0]), min_size=7, max_size=7))
def test_in_a_a_any_clicks_by_place_and_item_have_the_mean_credit_zero(ranking, clicked):
    """Position bias cannot favour a side: the sum over all coins is exactly 0, whatever the user clicks."""
    total = 0
    for starts in product((0, 1), repeat=4):
        order, owner = naive(ranking, ranking, starts)
        assert order == list(ranking), "equal rankings are shown as they are"
        places = {str(place): side for place, side in enumerate(owner)}
        total += credit(places, {str(place): value for place, value in enumerate(clicked)})
    assert total == 0


def test_coins_are_even_and_independent_of_each_other():
    drawn = [coins(f"q{number}", 5) for number in range(4000)]
    for place in range(5):
        assert abs(sum(one[place] for one in drawn) - 2000) < 4.5 * 1000**0.5
    for place in range(4):
        assert abs(sum(one[place] == one[place + 1] for one in drawn) - 2000) < 4.5 * 1000**0.5
    assert coins("a session that is always mixed like this", 8) == coins("a session that is always mixed like this", 8)


@given(st.dictionaries(seeds, st.integers(0, 1), max_size=6), st.dictionaries(seeds, st.floats(0, 1), max_size=9))
def test_credit_is_the_sign_of_the_difference_and_swaps_with_the_sides(owner, clicks):
    found = credit(owner, clicks)
    assert found in (-1, 0, 1)
    assert credit({item: 1 - side for item, side in owner.items()}, clicks) == -found
    assert credit(owner, {}) == 0


def test_rankings_of_other_items_are_refused():
    for wrong in ([0, 1], [0, 0, 1], [1, 2, 3]):
        with pytest.raises(ValueError, match="each of the items"):
            team_draft([0, 1, 2], wrong, "q")
    assert interleave.team_draft([], [], "q").order == ()
