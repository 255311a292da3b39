"""An index behind HTTP, so that many trainers and machines share one copy of it in memory.

It answers as Search-R1's retriever server does (`retrieval.served` says how), so that trainers written for that one can
ask it too. It withholds nothing: the leak guard is on the side of whoever asks, who knows the task.
"""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from masksearch_agent.errors import ServingError
from masksearch_agent.retrieval.search import Search
from masksearch_agent.retrieval.served import document_of

__all__ = ("PATH", "IndexServer")

PATH = "/retrieve"
_HEALTH = "/health"
_DEFAULT_TOPK = 3
_MAX_TOPK = 1_000
_MAX_QUERIES = 10_000
_MAX_BODY_BYTES = 16 << 20
_IDLE_S = 120.0
"""After which a connection that nobody uses is closed, and its thread ends."""

logger = logging.getLogger(__name__)


class _BadRequestError(Exception):
    """What is asked cannot be answered; the message is the reply."""


class IndexServer(ThreadingHTTPServer):
    """Answers searches until it is shut down; each connection is a thread."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, search: Search, host: str, port: int) -> None:
        """Bind the address.

        Raises:
            ServingError: It is taken, or not this machine's.
        """
        self.searched = search
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as failure:
            raise ServingError(
                f"cannot listen on {host}:{port}: {failure}; pass another --port (0 takes a free one) or an --host of "
                f"this machine"
            ) from failure

    @property
    def url(self) -> str:
        """What `--index` takes."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: IndexServer
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    # Else the headers wait for the last acknowledgement, and a search takes 40 ms.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        if self.path == _HEALTH:
            self._reply(HTTPStatus.OK, {"status": "ok"})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is no {self.path}; post to {PATH}")

    def do_POST(self) -> None:
        if self.path.rstrip("/") != PATH:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is no {self.path}; post to {PATH}")
            return
        try:
            queries, topk, with_scores = _read_request(self._body())
        except _BadRequestError as failure:
            self._refuse(HTTPStatus.BAD_REQUEST, str(failure))
            return
        try:
            rankings = self.server.searched.search(queries, topk)
        except Exception:
            logger.exception("a search failed")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "the search failed; the server's log says why")
            return
        result = [
            [
                {"document": document_of(hit.passage), "score": hit.score}
                if with_scores
                else document_of(hit.passage)
                for hit in hits
            ]
            for hits in rankings
        ]
        self._reply(HTTPStatus.OK, {"result": result})

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _BadRequestError("the request has no Content-Length")
        if int(length) > _MAX_BODY_BYTES:
            raise _BadRequestError(f"the request has {length} bytes; at most {_MAX_BODY_BYTES} are read")
        return self.rfile.read(int(length))

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        # What was not read of a body would be taken for the next request.
        self.close_connection = True
        self._reply(status, {"detail": detail})

    def _reply(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def _read_request(body: bytes) -> tuple[list[str], int, bool]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as failure:
        raise _BadRequestError(f"the request is not JSON ({failure})") from failure
    asked = asked if isinstance(asked, dict) else {}
    queries = asked.get("queries")
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise _BadRequestError("`queries` is to be a list of strings")
    if len(queries) > _MAX_QUERIES:
        raise _BadRequestError(
            f"there are {len(queries)} queries; at most {_MAX_QUERIES} are answered at once"
        )
    topk = asked.get("topk") or _DEFAULT_TOPK
    if not isinstance(topk, int) or isinstance(topk, bool) or not 1 <= topk <= _MAX_TOPK:
        raise _BadRequestError(f"`topk` is to be a number from 1 to {_MAX_TOPK}")
    return queries, topk, asked.get("return_scores") is True
