from __future__ import annotations

import pytest
from fakes.passages import AwaitableBackend, ListedPassages, ids, make_passages

from masksearch_agent.records import ScoredPassage
from masksearch_agent.retrieval.modes.hybrid import HybridIndex, fuse_rankings

A, B, C, D, E, F, G = make_passages(*"abcdefg")


def hits(*passages):
    return [ScoredPassage(passage, 0.0) for passage in passages]


def test_fusion_adds_reciprocal_ranks():
    fused = fuse_rankings([hits(A, B, C), hits(C, A)], 10, k=60)
    assert {hit.passage.id: hit.score for hit in fused} == {
        "p0": pytest.approx(1 / 61 + 1 / 62),
        "p1": pytest.approx(1 / 62),
        "p2": pytest.approx(1 / 63 + 1 / 61),
    }
    assert ids(fused) == ["p0", "p2", "p1"]


def test_a_tie_goes_to_the_earlier_ranking():
    assert ids(fuse_rankings([hits(B), hits(A)], 2)) == ["p1", "p0"]


@pytest.mark.parametrize(("k", "best"), [(1, "p0"), (60, "p1")])
def test_a_larger_constant_favours_what_two_rankings_hold_low(k: int, best: str):
    # `a` is first once, `b` is fourth twice: 1/2 against 2/5, and 1/61 against 2/64.
    fused = fuse_rankings([hits(A, C, D, B), hits(E, F, G, B)], 1, k=k)
    assert ids(fused) == [best]


async def test_the_index_looks_deeper_than_asked_and_fuses_per_query():
    parts = [
        AwaitableBackend({"q": [A, B], "r": [C]}),
        AwaitableBackend({"q": [C, B], "r": [C, D]}),
    ]
    index = HybridIndex(parts)
    found = index.search(["q", "r"], 2)
    assert [ids(each) for each in found] == [["p1", "p0"], ["p2", "p3"]]
    assert parts[0].requests == [(["q", "r"], 20)]
    assert await index.asearch(["q", "r"], 2) == found


def test_the_passages_are_known_where_all_parts_rank_the_same():
    same, others = [A, B], [B]
    assert HybridIndex([ListedPassages(same), ListedPassages(same)]).searched_passages is same
    assert not HybridIndex([ListedPassages(same), ListedPassages(others)]).searched_passages
    assert not HybridIndex([ListedPassages(same), AwaitableBackend({})]).searched_passages
    assert not HybridIndex([AwaitableBackend({}), ListedPassages(same)]).searched_passages
