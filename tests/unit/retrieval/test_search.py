from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fakes.passages import ListBackend, ListedPassages, ids, make_passages

from masksearch_agent.errors import RetrievalError
from masksearch_agent.records import ScoredPassage
from masksearch_agent.retrieval import search as search_module
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import Search, interleave

PASSAGES = make_passages(*(f"text number {n} of the fixed list" for n in range(40)))


class Withhold(LeakGuard):
    """Withholds passages by number."""

    def __init__(self, *numbers: int) -> None:
        super().__init__("")
        self.withheld = {f"p{number}" for number in numbers}

    def withholds(self, passage):
        return passage.id in self.withheld


class AwaitableBackend(ListBackend):
    async def asearch(self, queries, limit):
        self.thread = threading.current_thread()
        return ListBackend.search(self, queries, limit)

    def search(self, queries, limit):
        raise AssertionError("the async method must be used")


@pytest.fixture
def backend() -> ListBackend:
    return ListBackend({"q": PASSAGES, "r": PASSAGES[::-1], "short": PASSAGES[:2]})


def test_results_follow_the_queries_and_blank_ones_find_nothing(backend: ListBackend):
    found = Search(backend).search(["r", " ", "q", "r"], 2)
    assert [ids(hits) for hits in found] == [["p39", "p38"], [], ["p0", "p1"], ["p39", "p38"]]
    assert backend.requests == [(["r", "q"], 2)]


def test_half_a_surrogate_pair_in_a_query_costs_a_character():
    backend = ListBackend({"q?": PASSAGES, "über": PASSAGES[::-1]})
    search = Search(backend, cache_size=9)
    search.prefetch(["q\ud83d"], 2)
    assert [ids(hits) for hits in search.search(["q\ud83d", "über"], 2)] == [["p0", "p1"], ["p39", "p38"]]


def test_half_a_surrogate_pair_in_what_is_found_costs_a_character():
    cut = replace(PASSAGES[0], title="smile \ud83d", text="a snippet \ude00", source="über \ud83d")
    whole = replace(PASSAGES[1], text="über 😀")
    found = Search(ListBackend({"q": [cut, whole]})).search(["q"], 2)[0]
    assert [hit.passage for hit in found] == [
        replace(PASSAGES[0], title="smile ?", text="a snippet ?", source="über ?"),
        whole,
    ]


def test_a_known_query_is_not_asked_again(backend: ListBackend):
    search = Search(backend).for_run()
    first = search.search(["q"], 3)
    assert search.search(["  q\n", "r"], 3)[0] == first[0]
    assert backend.requests == [(["q"], 3), (["r"], 3)]


def test_a_search_without_its_guard_withholds_nothing(backend: ListBackend):
    search = Search(backend, is_guarded=False)
    search.prefetch(["q"], 3)
    assert ids(search.search(["q"], 3, Withhold(0))[0]) == ["p0", "p1", "p2"]
    assert backend.requests == [(["q"], 3)]


def test_guarded_searches_find_what_was_prefetched(backend: ListBackend):
    search, guard = Search(backend).for_run(), Withhold(0)
    search.prefetch(["q", "r", " q ", ""], 3)
    [(asked, limit)] = backend.requests
    assert asked == ["q", "r"]
    assert [ids(hits) for hits in search.search(["r", "q"], 3, guard)] == [
        ["p39", "p38", "p37"],
        ["p1", "p2", "p3"],
    ]
    assert backend.requests == [(asked, limit)]
    search.prefetch(["q"], 3)
    assert len(backend.requests) == 1


def test_prefetching_more_than_the_cache_holds_asks_for_no_more(backend: ListBackend):
    search = Search(backend, cache_size=1)
    search.prefetch(["q", "r"], 3)
    assert [queries for queries, _ in backend.requests] == [["q"]]


def test_another_limit_is_another_entry(backend: ListBackend):
    search = Search(backend).for_run()
    assert [len(search.search(["q"], limit)[0]) for limit in (3, 1, 3)] == [3, 1, 3]
    assert len(backend.requests) == 2


def test_the_least_recently_used_entry_leaves_first(backend: ListBackend):
    search = Search(backend, cache_size=2)
    for query in ("q", "r", "q", "short", "q", "r"):
        search.search([query], 1)
    assert [queries for queries, _ in backend.requests] == [["q"], ["r"], ["short"], ["r"]]


def test_nothing_is_remembered_that_nobody_asked_to_remember(backend: ListBackend):
    search = Search(backend)
    assert search.search(["q"], 1) == search.search(["q"], 1)
    assert len(backend.requests) == 2


def test_changing_a_result_list_does_not_change_the_cache(backend: ListBackend):
    search = Search(backend).for_run()
    search.search(["q"], 2)[0].clear()
    assert ids(search.search(["q"], 2)[0]) == ["p0", "p1"]


def test_withheld_passages_are_replaced_by_the_next_best(backend: ListBackend):
    (hits,) = Search(backend).search(["q"], 3, Withhold(0, 2))
    assert ids(hits) == ["p1", "p3", "p4"]
    assert len(backend.requests) == 1


def test_the_search_goes_deeper_where_nearly_all_is_withheld(backend: ListBackend):
    found = Search(backend).search(["q", "r"], 2, Withhold(*range(20)))
    assert [ids(hits) for hits in found] == [["p20", "p21"], ["p39", "p38"]]
    assert backend.requests == [(["q", "r"], 6), (["q"], 12), (["q"], 24)]


def test_a_backend_that_has_no_more_is_not_asked_again(backend: ListBackend):
    assert Search(backend).search(["short"], 2, Withhold(0, 1)) == [[]]
    assert len(backend.requests) == 1


def test_a_guard_that_withholds_everything_ends_the_search(backend: ListBackend):
    assert Search(backend).search(["q"], 2, Withhold(*range(40))) == [[]]


def test_a_guard_does_not_poison_the_cache_for_others(backend: ListBackend):
    search = Search(backend).for_run()
    search.search(["q"], 2, Withhold(0))
    assert ids(search.search(["q"], 2)[0]) == ["p0", "p1"]
    assert ids(search.search(["q"], 2, Withhold(1))[0]) == ["p0", "p2"]


async def test_async_search_gives_the_same_on_the_event_loop():
    backend = AwaitableBackend({"q": PASSAGES})
    (hits,) = await Search(backend).asearch(["q"], 3, Withhold(0))
    assert ids(hits) == ["p1", "p2", "p3"]
    assert backend.thread is threading.current_thread()


async def test_a_backend_without_async_runs_in_a_thread():
    class Blocking(ListBackend):
        def search(self, queries, limit):
            assert threading.current_thread() is not threading.main_thread()
            return super().search(queries, limit)

    (hits,) = await Search(Blocking({"q": PASSAGES})).asearch(["q"], 2)
    assert ids(hits) == ["p0", "p1"]


def test_a_search_may_be_shared_between_threads(backend: ListBackend):
    search = Search(backend, cache_size=1)
    expected = {"q": ["p0", "p1"], "r": ["p39", "p38"], "short": ["p0", "p1"]}
    with ThreadPoolExecutor(8) as pool:
        queries = ["q", "r", "short"] * 100
        found = list(pool.map(lambda query: ids(search.search([query], 2)[0]), queries))
    assert found == [expected[query] for query in queries]


def test_what_only_the_withheld_passage_holds_cannot_be_found():
    search = Search(ListedPassages(PASSAGES))
    assert search.may_find("number 7")
    assert not search.may_find("number 7", besides="p7")
    assert search.may_find("fixed list", besides="p7")
    assert not search.may_find("number 40")


def test_without_its_guard_a_search_may_find_the_passage_itself():
    assert Search(ListedPassages(PASSAGES), is_guarded=False).may_find("number 7", besides="p7")


@pytest.mark.parametrize("passages", [None, (), PASSAGES])
def test_anything_may_be_found_where_the_passages_are_unknown_or_too_many(
    passages, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(search_module, "_MAX_SKETCHED", len(PASSAGES) - 1)
    backend = ListBackend({})
    if passages is not None:
        backend.searched_passages = passages
    assert Search(backend).may_find("Gothenburg")


def test_a_limit_below_one_is_an_error(backend: ListBackend):
    with pytest.raises(RetrievalError, match="limit is 0; expected at least 1"):
        Search(backend).search(["q"], 0)


def test_a_backend_that_returns_too_few_lists_is_an_error():
    class Forgetful:
        def search(self, queries, limit):
            return [[]]

    with pytest.raises(RetrievalError, match="Forgetful returned 1 result lists for 2 queries"):
        Search(Forgetful()).search(["a", "b"], 1)


def test_interleave_takes_turns_and_drops_repetitions():
    a, b, c, d, e = (ScoredPassage(passage, 0.0) for passage in PASSAGES[:5])
    assert ids(interleave([[a, b, c], [b, d], [e]], 10)) == ["p0", "p1", "p4", "p3", "p2"]
    assert ids(interleave([[a, b, c], [b, d], [e]], 2)) == ["p0", "p1"]
    assert interleave([], 3) == interleave([[], []], 3) == []


@pytest.mark.parametrize("queries", ["q", [None], [5], ["q", b"r"]])
async def test_what_is_no_list_of_strings_is_refused(backend: ListBackend, queries: Any):
    with pytest.raises(RetrievalError, match="expected a list of strings"):
        Search(backend).search(queries, 1)
    with pytest.raises(RetrievalError, match="expected a list of strings"):
        await Search(backend).asearch(queries, 1)
    assert backend.requests == []


@pytest.mark.parametrize("limit", [0, -1, "3", None, 1.5])
def test_a_limit_that_is_no_number_of_passages_is_refused(backend: ListBackend, limit: Any):
    with pytest.raises(RetrievalError, match=r"search limit is .*; expected at least 1"):
        Search(backend).search(["q"], limit)
