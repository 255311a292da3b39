from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_community")

from langchain_core.documents import Document

import masksearch_agent.retrieval.web as web
from masksearch_agent.config.calls import CallSettings
from masksearch_agent.config.retrieval import WebSearchSettings
from masksearch_agent.errors import MissingExtraError, RetrievalError, ServiceError, ServiceRefusedError
from masksearch_agent.records import ScoredPassage
from masksearch_agent.retrieval.adapters import as_search
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.web import open_web_search, web_source

FAST = WebSearchSettings(calls=CallSettings(timeout_s=0.5, patience_s=2, first_wait_s=0.001), cache=None)
BRIDGE = {
    "title": "Bridge",
    "link": "https://a.example",
    "snippet": "The bridge opened in 1932 and was designed by Ada Holt.",
}
ELIDED = {
    "title": "Copy",
    "link": "https://b.example",
    "snippet": "The bridge opened in 1932 … it carries the road to Aldin ... eight lanes over the wide bay",
}
SOURCE = (
    "The bridge opened in 1932 after six years of work. Since then it carries the road to Aldin and two tracks, "
    "and with eight lanes over the wide bay it is the longest."
)
ANSWERS: dict[str, Any] = {
    "serpapi": {"organic_results": [BRIDGE, {"title": "no snippet"}]},
    "serper": {"organic": [BRIDGE, {"title": "no snippet"}]},
}


class FakeWrapper:
    """Stands in for any of the wrappers; fails first as often as it is told."""

    def __init__(self, answer: Any, failures: int = 0, failure: Exception | None = None) -> None:
        self.answer = answer
        self.failures = failures
        self.failure = failure or ConnectionResetError(104, "reset")
        self.params: dict[str, Any] = {}
        self.asked: list[str] = []

    def model_copy(self, update: dict[str, Any]) -> FakeWrapper:
        return self

    def _answer(self, query: str) -> Any:
        self.asked.append(query)
        if len(self.asked) <= self.failures:
            raise self.failure
        return self.answer

    async def aresults(self, query: str) -> Any:
        return self._answer(query)

    async def results_async(self, query: str, **_: Any) -> Any:
        return self._answer(query)

    def results(self, query: str, max_results: int) -> Any:
        return self._answer(query)

    def load(self, query: str) -> Any:
        return self._answer(query)


def wrapper_for(source: str, **faults: Any) -> FakeWrapper:
    plain: Any = [{"title": BRIDGE["title"], "url": BRIDGE["link"], "content": BRIDGE["snippet"]}]
    if source == "duckduckgo":
        plain = [BRIDGE]
    if source == "wikipedia":
        plain = [Document(BRIDGE["snippet"], metadata={"title": BRIDGE["title"], "source": BRIDGE["link"]})]
    return FakeWrapper(ANSWERS.get(source, plain), **faults)


def found(search: Any, query: str = "who designed it", limit: int = 3) -> list[ScoredPassage]:
    return asyncio.run(search.asearch([query], limit))[0]


@pytest.mark.parametrize("source", ["serpapi", "serper", "tavily", "duckduckgo", "wikipedia"])
def test_results_are_passages_with_title_and_address_and_survive_lost_connections(source: Any) -> None:
    wrapper = wrapper_for(source, failures=3)
    search = open_web_search(source, FAST, wrapper)
    [hit] = found(search)
    assert (hit.passage.title, hit.passage.text, hit.passage.source) == (
        BRIDGE["title"],
        BRIDGE["snippet"],
        BRIDGE["link"],
    )
    assert len(wrapper.asked) == 4
    assert search.search(["who designed it"], 3) == [[hit]]


@pytest.mark.parametrize("source", ["serpapi", "serper", "tavily"])
def test_the_wrappers_own_methods_are_still_there(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, name, key, _ = web._WRAPPERS[source]
    monkeypatch.setenv(key, "not-a-real-key")
    if source == "serpapi":
        pytest.importorskip("serpapi", reason="google-search-results is not installed (extra `web`)")
    wrapper = web._make_wrapper(source)
    assert type(wrapper).__name__ == name
    if source == "tavily":
        assert callable(wrapper.results_async)
        return
    assert callable(wrapper.model_copy(update={"aiosession": None}).aresults)
    assert "aiosession" in type(wrapper).model_fields


@pytest.mark.parametrize("source", ["serper", "tavily"])
def test_a_missing_key_is_named_and_never_shown(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = web._WRAPPERS[source][2]
    monkeypatch.delenv(key, raising=False)
    with pytest.raises(ServiceRefusedError, match=f"set its API key in the environment as {key}"):
        open_web_search(source, FAST)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise ImportError("no", name="ddgs")

    monkeypatch.setattr(web.importlib, "import_module", fail)
    with pytest.raises(MissingExtraError, match=r"ddgs is not installed; .*\[web\]"):
        open_web_search("duckduckgo", FAST)


def test_serpapis_report_of_no_result_is_no_error() -> None:
    nothing = FakeWrapper({"error": "Google hasn't returned any results for this query."})
    assert found(open_web_search("serpapi", FAST, nothing)) == []
    refused = FakeWrapper({"error": "Your account has run out of searches."})
    hasty = FAST.model_copy(update={"calls": CallSettings(patience_s=0.01, first_wait_s=0.001)})
    with pytest.raises(ServiceError, match="run out of searches"):
        found(open_web_search("serpapi", hasty, refused))


def test_ddgs_report_of_no_result_is_no_error() -> None:
    nothing = FakeWrapper([], failures=9, failure=Exception("No results found."))
    assert found(open_web_search("duckduckgo", FAST, nothing)) == []
    assert len(nothing.asked) == 1


def test_the_guard_withholds_elided_copies_of_the_source() -> None:
    search = open_web_search("serper", FAST, FakeWrapper({"organic": [ELIDED, BRIDGE]}))
    guard = LeakGuard(SOURCE)
    [[hit]] = asyncio.run(search.asearch(["bridge"], 5, guard))
    assert hit.passage.title == "Bridge"
    # What the guard withholds from one task, another one may read, from the same cache.
    assert len(found(search, "bridge", 9)) == 2


def test_answers_are_kept_between_runs(tmp_path: Path) -> None:
    settings = FAST.model_copy(update={"cache": tmp_path / "web.sqlite"})
    first, second = wrapper_for("tavily"), wrapper_for("tavily")
    hits = found(open_web_search("tavily", settings, first))
    assert found(open_web_search("tavily", settings, second)) == hits
    assert (len(first.asked), len(second.asked)) == (1, 0)
    others = found(open_web_search("serper", settings, wrapper_for("serper")))
    assert [hit.passage.text for hit in others] == [hit.passage.text for hit in hits]
    old = settings.model_copy(update={"cache_max_age_s": 1e-9})
    found(open_web_search("tavily", old, second))
    assert len(second.asked) == 1


def test_a_search_that_hangs_is_given_up() -> None:
    class Hanging(FakeWrapper):
        async def results_async(self, query: str, **_: Any) -> Any:
            await asyncio.sleep(60)

    calls = CallSettings(timeout_s=0.02, patience_s=0.1, first_wait_s=0.001)
    search = open_web_search("tavily", FAST.model_copy(update={"calls": calls}), Hanging([]))
    with pytest.raises(ServiceError, match="tavily search keeps failing: TimeoutError"):
        found(search)


def test_a_status_that_is_told_in_words_only_is_understood() -> None:
    refused = wrapper_for("tavily", failures=9, failure=Exception("Error 401: Unauthorized"))
    with pytest.raises(ServiceRefusedError):
        found(open_web_search("tavily", FAST, refused))
    assert len(refused.asked) == 1


def test_any_retriever_can_be_given_patience() -> None:
    asked = []

    def unreliable(query: str) -> list[str]:
        asked.append(query)
        if len(asked) < 3:
            raise ConnectionResetError(104, "reset")
        return [f"about {query}"]

    search = as_search(unreliable, calls=FAST.calls)
    assert found(search, "x")[0].passage.text == "about x"


def test_only_known_sources_are_web_searches() -> None:
    assert web_source("web:tavily") == "tavily"
    assert web_source("runs/index") is None
    with pytest.raises(RetrievalError, match="no web search is named 'web:bing'"):
        web_source("web:bing")
