from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fakes.passages import make_passages

from masksearch_agent.config.calls import CallSettings
from masksearch_agent.config.retrieval import RetrievalSettings, ServedSearchSettings
from masksearch_agent.errors import RetrievalError, ServiceError, ServiceRefusedError
from masksearch_agent.records import Passage, content_id
from masksearch_agent.retrieval.adapters import as_search, is_folder, open_search
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.served import document_of, open_served_search, served_url

FAST = ServedSearchSettings(calls=CallSettings(timeout_s=5, patience_s=0.3, first_wait_s=0.001))
BRIDGE = {"id": "17", "contents": '"The bridge"\nIt opened in 1932.\nAda Holt drew it.'}


class Recorded:
    """A server that answers what it is told, in turn, and keeps what it was asked."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @contextmanager
    def running(self) -> Iterator[str]:
        recorded = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                recorded.asked.append((self.path, asked))
                status, answer = recorded.answers[min(len(recorded.asked), len(recorded.answers)) - 1]
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = Thread(target=server.serve_forever, daemon=True)
            thread.start()
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("http://10.0.0.5:8000", "http://10.0.0.5:8000"),
        ("http:http://10.0.0.5:8000/retrieve", "http://10.0.0.5:8000/retrieve"),
        ("https://search.example/v1/", "https://search.example/v1"),
        (Path("http://10.0.0.5:8000/retrieve"), "http://10.0.0.5:8000/retrieve"),
        ("runs/index", None),
        ("http", None),
        ("web:wikipedia", None),
    ],
)
def test_an_address_is_told_from_a_folder_also_where_it_was_taken_for_a_path(
    name: str | Path, url: str | None
):
    assert served_url(name) == url
    assert is_folder(name) == (name in ("runs/index", "http"))


def test_a_batch_is_one_request_as_search_r1_s_trainers_write_it():
    reply = {"result": [[{"document": BRIDGE, "score": 0.75}], []]}
    server = Recorded((200, reply))
    with server.running() as url:
        [found, nothing] = open_served_search(url, FAST).search(["who drew  it", "other"], 3)
    assert server.asked == [
        ("/retrieve", {"queries": ["who drew it", "other"], "topk": 3, "return_scores": True})
    ]
    [hit] = found
    assert hit.passage == Passage("17", "The bridge", "It opened in 1932.\nAda Holt drew it.")
    assert hit.score == 0.75
    assert nothing == []


async def test_documents_without_scores_are_scored_by_rank_and_named_by_their_text():
    texts = [{"contents": '"A"\none'}, {"contents": "two"}, {"contents": '"empty"\n '}]
    with Recorded((200, {"result": [texts]})).running() as url:
        [hits] = await open_served_search(url, FAST).asearch(["q"], 5)
    assert [(hit.passage.title, hit.passage.text, hit.score) for hit in hits] == [
        ("A", "one", 1),
        ("", "two", 0.5),
    ]
    assert hits[0].passage.id == content_id("A", "one")


def test_path_and_field_names_are_settings():
    settings = RetrievalSettings(
        served=FAST.model_copy(
            update={
                "path": "/search", "queries_field": "q", "limit_field": "n", "scores_field": "scores",
                "result_field": "hits", "document_field": "doc", "score_field": "rank", "text_field": "body",
            }
        )
    )  # fmt: skip
    reply = {"hits": [[{"doc": {"title": "A", "body": "one\ntwo", "source": "a.example"}, "rank": 2}]]}
    server = Recorded((200, reply))
    with server.running() as url:
        [[hit]] = open_search(Path(url), settings).search(["x"], 2)
        assert open_search(f"{url}/other", settings).search(["x"], 2) == [[hit]]
    assert server.asked[0] == ("/search", {"q": ["x"], "n": 2, "scores": True})
    assert server.asked[1][0] == "/other"
    assert (hit.passage.title, hit.passage.text, hit.passage.source) == ("A", "one\ntwo", "a.example")
    assert hit.score == 2.0
    assert hit.passage.metadata == {"source": "a.example"}


def test_a_passage_of_ours_comes_back_as_it_was():
    passage = Passage(
        "p",
        'The "Orly"\nworks',
        " a\n text",
        document_id="d",
        position=3,
        source="f.md",
        metadata={"page": 4},
    )
    with Recorded((200, {"result": [[document_of(passage)]]})).running() as url:
        [[hit]] = as_search(url).search(["x"], 1)
    assert hit.passage == passage


def test_the_leak_guard_withholds_what_a_server_returns():
    source, other = make_passages(
        "the red fox jumps over the lazy dog today", "blue whales sing all night long"
    )
    found = [{"document": document_of(each), "score": 1.0} for each in (source, other)]
    server = Recorded((200, {"result": [found]}))
    with server.running() as url:
        [hits] = open_served_search(url, FAST).search(["x"], 1, LeakGuard(source.text, source.id))
    assert [hit.passage for hit in hits] == [other]
    assert server.asked[0][1]["topk"] == 5, "four more are fetched where some may be withheld"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ([], "expected `result`, a list of one list of passages per query"),
        ({"results": []}, r"replied \['results'\]; expected `result`"),
        ({"result": []}, "expected `result`"),
        ({"result": [{"a": 1}]}, "expected a list of passages for each query"),
        (
            {"result": [[{"text": "x"}]]},
            r"replied \['text'\]; expected passages with their text as `contents`",
        ),
    ],
)
def test_a_reply_of_another_form_says_what_to_set(reply: Any, message: str):
    with Recorded((200, reply)).running() as url, pytest.raises(RetrievalError, match=message) as raised:
        open_served_search(url, FAST).search(["x"], 1)
    assert "retrieval.served" in str(raised.value)


def test_a_server_that_stumbles_is_asked_again_and_one_that_stays_down_is_named():
    server = Recorded((503, {}), (200, {"result": [[BRIDGE]]}))
    with server.running() as url:
        assert len(open_served_search(url, FAST).search(["x"], 1)[0]) == 1
        assert len(server.asked) == 2
    with pytest.raises(ServiceError, match=f"the search server {url}/retrieve keeps failing"):
        open_served_search(url, FAST).search(["x"], 1)


def test_a_path_that_is_not_there_is_refused_at_once():
    server = Recorded((404, {}))
    with server.running() as url, pytest.raises(ServiceRefusedError, match="404"):
        open_served_search(url, FAST).search(["x"], 1)
    assert len(server.asked) == 1


def test_a_malformed_address_is_named():
    with pytest.raises(
        RetrievalError, match=r"'http://10.0.0.1:port' is no address .*; expected http://HOST:PORT"
    ):
        open_search("http://10.0.0.1:port", RetrievalSettings())


def test_a_password_in_an_address_is_in_no_message():
    with Recorded((200, [])).running() as url:
        search = open_served_search(url.replace("//", "//ann:swordfish@"), FAST)
        with pytest.raises(RetrievalError, match=f"the search server {url}/retrieve replied") as raised:
            search.search(["x"], 1)
    assert "swordfish" not in str(raised.value)
