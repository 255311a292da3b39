from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.messages.content import create_text_block

from masksearch_agent.errors import RetrievalError
from masksearch_agent.records import Passage, ScoredPassage, content_id
from masksearch_agent.retrieval.results import hits_from_output, passage_from_document

PASSAGE = Passage("p", "T", "x")
RESULT = {"title": "T", "url": "http://x", "content": "c"}


def block(text: str) -> dict[str, Any]:
    """Return a content block as LangChain makes it, with an id that is another each time."""
    return dict(create_text_block(text))


def passages(output: object) -> list[Passage]:
    return [hit.passage for hit in hits_from_output(output, 10)]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("some text", [("", "some text", "")]),
        (["one", "two"], [("", "one", ""), ("", "two", "")]),
        ([{"title": "T", "content": "c", "url": "http://x"}], [("T", "c", "http://x")]),
        ([{"snippet": "s", "link": "http://x"}], [("http://x", "s", "http://x")]),
        ({"query": "q", "results": [{"title": "T", "text": "t"}]}, [("T", "t", "")]),
        ({"title": "T", "body": "b"}, [("T", "b", "")]),
        ([Document("d", metadata={"title": "T", "source": "f.txt"})], [("T", "d", "f.txt")]),
        ([{"type": "text", "text": "block"}], [("", "block", "")]),
        (("shown to the model", [PASSAGE]), [("T", "x", "")]),
        (("only content", None), [("", "only content", "")]),
        (("only content", {"latency": 3}), [("", "only content", "")]),
        (("nothing found", []), []),
        ((PASSAGE, PASSAGE), [("T", "x", ""), ("T", "x", "")]),
        ([ScoredPassage(PASSAGE, 3.0)], [("T", "x", "")]),
        (["  ", "kept"], [("", "kept", "")]),
        ([], []),
        # As MCP tools answer: structured, or the same as JSON text.
        (("[…]", {"structured_content": {"result": [RESULT]}}), [("T", "c", "http://x")]),
        (("[…]", {"structured_content": {"total": 1, "items": [RESULT]}}), [("T", "c", "http://x")]),
        (("[…]", {"structured_content": RESULT}), [("T", "c", "http://x")]),
        (("…", {"structured_content": {"result": "plain"}}), [("", "plain", "")]),
        (("none", {"structured_content": {"result": []}}), []),
        (([block("plain")], {"structured_content": {"score": 3}}), [("", "plain", "")]),
        ([block(json.dumps(RESULT)), block(json.dumps(RESULT))], [("T", "c", "http://x")] * 2),
        ([block(json.dumps([RESULT])), {"type": "image", "url": "i"}], [("T", "c", "http://x")]),
        ([block('{"results": []}')], []),
        (json.dumps({"results": [RESULT]}), [("T", "c", "http://x")]),
        ("[]", []),
        ("[1] a note", [("", "[1] a note", "")]),
        ('{"name": "x", "tags": ["a"]}', [("", '{"name": "x", "tags": ["a"]}', "")]),
        (['{"text": "a document of JSON"}'], [("", '{"text": "a document of JSON"}', "")]),
        ([Document('{"text": "d"}')], [("", '{"text": "d"}', "")]),
        ([{"title": "T", "url": "http://x", "description": "d"}], [("T", "d", "http://x")]),
        ([{"page_content": "d", "metadata": {"title": "T", "source": "f"}, "id": None}], [("T", "d", "f")]),
        # As chains answer.
        ({"input": "q", "context": [Document("d")], "answer": "a"}, [("", "d", "")]),
        ({"summary": "one", "results": [RESULT]}, [("T", "c", "http://x")]),
    ],
)
def test_every_accepted_form_becomes_passages(output: object, expected: list[tuple[str, str, str]]):
    assert [(each.title, each.text, each.source) for each in passages(output)] == expected


def test_scores_fall_with_the_rank_and_the_limit_holds():
    hits = hits_from_output(["a", "", "b", "c"], 2)
    assert [(hit.passage.text, hit.score) for hit in hits] == [("a", 1.0), ("b", 0.5)]


def test_a_document_s_own_id_else_its_metadata_s_is_the_document_s():
    assert passage_from_document(Document("x", id="own", metadata={"id": "meta"})).document_id == "own"
    assert passage_from_document(Document("x", metadata={"id": 7})).document_id == "7"
    empty = {"title": float("nan"), "source": float("nan"), "url": np.nan, "id": None}
    assert passage_from_document(Document("x", metadata=empty)).title == ""
    bare = passage_from_document(Document("x", metadata={"source": "f"}))
    assert (bare.id, bare.document_id) == (content_id("f", "x"), "")


@pytest.mark.parametrize("own", [{"id": "doc"}, {"metadata": {"id": "doc"}}], ids=["own", "metadata"])
def test_chunks_that_share_their_document_s_id_are_passages_of_their_own(own: dict[str, Any]):
    one, two, again = (passage_from_document(Document(text, **own)) for text in ("a", "b", "a"))
    assert one == again
    assert one.id != two.id
    assert one.document_id == two.document_id == "doc"
    first, second = passages([{"id": 3, "text": "a"}, {"id": 3, "text": "b"}])
    assert first.id != second.id


def test_a_document_that_was_made_unchecked_may_lack_its_metadata_or_its_text():
    bare = Document.model_construct(page_content="d", metadata=None, id=None)
    blank = Document.model_construct(page_content=None, metadata={"title": "T"}, id="7")
    assert [(found.text, found.title, found.metadata) for found in passages([blank, bare])] == [("d", "", {})]


def test_metadata_can_not_replace_the_text_of_a_document():
    assert passage_from_document(Document("real", metadata={"text": "other"})).text == "real"


def test_a_tool_message_gives_its_artifact_or_reports_its_error():
    message = ToolMessage("shown", artifact=[PASSAGE], tool_call_id="1", name="web")
    assert passages(message) == [PASSAGE]
    failed = ToolMessage("quota exceeded", status="error", tool_call_id="1", name="web")
    with pytest.raises(RetrievalError, match="the search tool 'web' failed: quota exceeded"):
        passages(failed)


@pytest.mark.parametrize("output", [3, None, [3], [{"no": "text"}], {"no": "text"}])
def test_another_form_is_an_error_that_names_what_came(output: object):
    with pytest.raises(RetrievalError, match=r"a search returned a .*; expected a str, or a list of"):
        passages(output)


def test_what_a_retriever_knows_of_a_document_stays_with_its_passage():
    metadata = {"title": "T", "source": "f.pdf", "page": 3, "id": 7}
    assert passage_from_document(Document("x", metadata=metadata)).metadata == metadata
    [result] = passages([{"type": "text", "title": "T", "content": "c", "url": "http://x", "score": 0.5}])
    assert (result.source, result.metadata) == ("http://x", {"url": "http://x", "score": 0.5})
    assert passages(["text"])[0].metadata == {}


def test_an_output_without_an_end_is_refused():
    cyclic: dict[str, Any] = {}
    cyclic["results"] = cyclic
    deep: object = ["x"]
    for _ in range(10_000):
        deep = {"result": deep}
    for output in (cyclic, deep):
        with pytest.raises(RetrievalError, match="a search returned a dict; expected"):
            hits_from_output(output, 3)
