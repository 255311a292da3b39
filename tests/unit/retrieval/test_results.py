from __future__ import annotations

import pytest
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage

from masksearch_agent.errors import RetrievalError
from masksearch_agent.records import Passage, ScoredPassage, content_id
from masksearch_agent.retrieval.results import hits_from_output, passage_from_document

PASSAGE = Passage("p", "T", "x")


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
    ],
)
def test_every_accepted_form_becomes_passages(output: object, expected: list[tuple[str, str, str]]):
    assert [(each.title, each.text, each.source) for each in passages(output)] == expected


def test_scores_fall_with_the_rank_and_the_limit_holds():
    hits = hits_from_output(["a", "", "b", "c"], 2)
    assert [(hit.passage.text, hit.score) for hit in hits] == [("a", 1.0), ("b", 0.5)]


def test_a_document_keeps_its_own_id_else_its_metadata_id_else_its_content():
    assert passage_from_document(Document("x", id="own", metadata={"id": "meta"})).id == "own"
    assert passage_from_document(Document("x", metadata={"id": 7})).id == "7"
    assert passage_from_document(Document("x", metadata={"source": "f"})).id == content_id("f", "x")


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
