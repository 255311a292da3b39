"""HTTP connections for many calls at once to servers of the OpenAI protocol.

The `openai` package's own client takes longer the more calls are in flight: for each one it looks through all of its
connections. With the package's aiohttp client, 200 calls at once take half of the processor time
(`benchmarks/chat_model_speed.py`). Such a client belongs to one event loop and wants to be closed before that ends;
here each loop has its own, and `close_connections` closes it.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ("close_connections", "open_connections")

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()


def open_connections() -> Any:
    """Return an asynchronous HTTP client for `ChatOpenAI`; None where aiohttp or openai is not installed.

    Whoever uses it awaits `close_connections` before the event loop ends. It works on in the next loop.
    """
    try:
        import openai

        class LoopClient(openai.DefaultAioHttpClient):  # type: ignore[misc]
            async def send(self, request: Any, **options: Any) -> Any:
                loop = asyncio.get_running_loop()
                if loop not in _clients:
                    _clients[loop] = openai.DefaultAioHttpClient()
                return await _clients[loop].send(request, **options)

        return LoopClient()
    # What openai raises where its aiohttp is missing.
    except (ImportError, RuntimeError):
        return None


async def close_connections() -> None:
    """Close the connections of the running event loop."""
    client = _clients.pop(asyncio.get_running_loop(), None)
    if client is not None:
        await client.aclose()
