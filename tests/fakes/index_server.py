"""An index that is served by a thread of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from masksearch_agent.retrieval.search import Search
from masksearch_agent.serving.index_server import IndexServer


@contextmanager
def serve_search(search: Search) -> Iterator[IndexServer]:
    """Answer searches at a free port of this machine for the duration."""
    with IndexServer(search, "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
