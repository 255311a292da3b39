"""Many calls at once to servers of the OpenAI protocol (`benchmarks/chat_model_speed.py` measures them).

The `openai` package's own client takes longer the more calls are in flight: for each one it looks through all of its
connections. With the package's aiohttp client, 200 calls at once take half of the processor time. Such a client
belongs to one event loop and wants to be closed before that ends; here each loop has its own, and `close_connections`
closes it.

The package also compares every message with the type annotations of all kinds of messages, to rename what has another
name in JSON; in a message nothing has, and it takes a quarter of a call. What stands in `extra_body` is sent as it is.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.language_models import BaseChatModel

__all__ = ("close_connections", "open_connections", "open_many_calls_model")

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


def open_many_calls_model(name: str, **options: Any) -> BaseChatModel:
    """Return `ChatOpenAI` for the model that the server calls so, with less work for each call.

    Raises:
        ImportError: langchain-openai is not installed.
    """
    from langchain_openai import ChatOpenAI

    class ManyCallsChatOpenAI(ChatOpenAI):
        def _get_request_payload(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            payload: dict[str, Any] = super()._get_request_payload(*args, **kwargs)
            if messages := payload.get("messages"):
                payload["extra_body"] = {**(payload.get("extra_body") or {}), "messages": messages}
                payload["messages"] = []
            return payload

    return ManyCallsChatOpenAI(model=name, http_async_client=open_connections(), **options)


async def close_connections() -> None:
    """Close the connections of the running event loop."""
    client = _clients.pop(asyncio.get_running_loop(), None)
    if client is not None:
        await client.aclose()
