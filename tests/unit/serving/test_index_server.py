from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest
from fakes.index_server import serve_search
from fakes.passages import make_passages

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import ServingError
from masksearch_agent.retrieval.adapters import open_search
from masksearch_agent.retrieval.index import build_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.serving.index_server import IndexServer

PASSAGES = make_passages("red fox", "blue whale", "blue fox in the blue sea", 'a "quoted" line')
SETTINGS = RetrievalSettings(mode="bm25")
QUERIES = ["blue whale", "fox", "quoted", "nothing of it", ""]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "index"
    build_index(PASSAGES, folder, SETTINGS)
    return folder


@pytest.fixture(scope="module")
def server(index: Path) -> Iterator[IndexServer]:
    with serve_search(open_search(index, SETTINGS)) as running:
        yield running


def test_a_served_index_answers_as_the_index_itself(index: Path, server: IndexServer):
    expected = open_search(index, SETTINGS).search(QUERIES, 3)
    assert [len(hits) for hits in expected] == [2, 2, 1, 0, 0]
    assert open_search(server.url, SETTINGS).search(QUERIES, 3) == expected


async def test_many_ask_at_once_and_none_gets_another_s_results(index: Path, server: IndexServer):
    here, there = open_search(index, SETTINGS), open_search(server.url, SETTINGS)
    asked = [["fox"], ["blue whale"], ["quoted", "fox"]] * 20
    found = await asyncio.gather(
        *(there.asearch(queries, limit % 3 + 1) for limit, queries in enumerate(asked))
    )
    assert found == [here.search(queries, limit % 3 + 1) for limit, queries in enumerate(asked)]


def test_it_speaks_to_clients_of_search_r1(server: IndexServer):
    body = {"queries": ["whale"], "topk": 1, "return_scores": True}
    [[scored]] = httpx.post(f"{server.url}/retrieve", json=body).json()["result"]
    assert scored["document"]["contents"] == f'"{PASSAGES[1].title}"\nblue whale'
    assert scored["document"]["id"] == PASSAGES[1].id
    assert scored["score"] > 0
    [[plain]] = httpx.post(f"{server.url}/retrieve", json={"queries": ["whale"]}).json()["result"]
    assert plain == scored["document"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "not JSON"),
        (b"[]", "`queries` is to be a list of strings"),
        (b'{"queries": "fox"}', "`queries` is to be a list of strings"),
        (b'{"queries": [1]}', "`queries` is to be a list of strings"),
        (b'{"queries": ["fox"], "topk": -1}', "`topk` is to be a number from 1 to 1000"),
        (b'{"queries": ["fox"], "topk": true}', "`topk` is to be a number from 1 to 1000"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(server: IndexServer, body: bytes, detail: str):
    refused = httpx.post(f"{server.url}/retrieve", content=body)
    assert refused.status_code == 400
    assert detail in refused.json()["detail"]


def test_other_paths_and_too_long_requests_are_refused(server: IndexServer):
    assert httpx.post(f"{server.url}/elsewhere", json={}).status_code == 404
    assert httpx.get(f"{server.url}/retrieve").status_code == 404
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
    connection = HTTPConnection("127.0.0.1", server.server_address[1])
    connection.request("POST", "/retrieve", headers={"Content-Length": str((16 << 20) + 1)})
    too_long = connection.getresponse()
    assert too_long.status == 400
    assert "at most 16777216 are read" in json.load(too_long)["detail"]
    connection.close()


def test_a_search_that_fails_costs_its_request_and_not_the_server(caplog: pytest.LogCaptureFixture):
    class Failing:
        def search(self, queries, limit):
            if "bad" in queries:
                raise OSError("the disk is gone")
            return [[] for _ in queries]

    with serve_search(Search(Failing())) as running:
        bad = httpx.post(f"{running.url}/retrieve", json={"queries": ["bad"]})
        good = httpx.post(f"{running.url}/retrieve", json={"queries": ["good"]})
    assert (bad.status_code, good.json()) == (500, {"result": [[]]})
    assert "disk" not in bad.text
    assert "the disk is gone" in caplog.text


def test_a_taken_port_is_named(server: IndexServer):
    port = server.server_address[1]
    with pytest.raises(ServingError, match=f"cannot listen on 127.0.0.1:{port}.*--port"):
        IndexServer(server.searched, "127.0.0.1", port)


@pytest.mark.usefixtures("ctrl_c")
def test_the_command_serves_on_this_machine_only_and_ends_with_ctrl_c(index: Path):
    command = [sys.executable, "-m", "masksearch_agent.cli", "serve-index", str(index)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = ""
        while "passages" not in told and (line := process.stdout.readline()):
            told += line
        url = next(word for word in told.split() if word.startswith("http://"))
        assert url.startswith("http://127.0.0.1:")
        assert open_search(url, SETTINGS).search(["whale"], 1)[0][0].passage == PASSAGES[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
