"""A stand-in for a vLLM server: its answers in vLLM's form, its tokens from the local engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from masksearch_agent.models.engine import BatchingEngine
from masksearch_agent.models.recording import Completion
from masksearch_agent.records import Sampling


class FakeVLLMServer(httpx.AsyncBaseTransport):
    """Answers the requests that `VLLMClient` sends.

    Args:
        model: A tiny model.
        tokenizer: Its tokenizer.
        end_of_turn_id: What the client must name as the end of a reply.
    """

    def __init__(self, model: Any, tokenizer: Any, end_of_turn_id: int, max_model_len: int = 256) -> None:
        self.engine = BatchingEngine(model, tokenizer, end_of_turn_id)
        self.max_model_len = max_model_len
        self.requests: list[tuple[str, dict[str, Any]]] = []
        """Path and body of everything that was asked, in order."""
        self.failures: list[Exception | httpx.Response] = []
        """What to answer the next requests with instead."""
        self.overrides: dict[str, Any] = {}
        """Fields of a completion to answer with instead of the true ones."""
        self.hides_prompts = False
        """In streams, as vLLM does with a prompt that it reads in several passes."""
        self.breaks_off = False
        """In a stream, after its first piece."""
        self.name = "served"
        self.version = "default"
        self.open_requests = 0
        self.most_open_requests = 0

    @property
    def sent(self) -> list[tuple[int, ...]]:
        return [tuple(body["prompt"]) for path, body in self.requests if path == "/v1/completions"]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else dict(request.url.params)
        self.requests.append((request.url.path, body))
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        self.open_requests += 1
        self.most_open_requests = max(self.most_open_requests, self.open_requests)
        try:
            return await self._answer(request.url.path, body)
        finally:
            self.open_requests -= 1

    async def _answer(self, path: str, body: dict[str, Any]) -> httpx.Response:
        if path == "/v1/models":
            model = {"id": self.name, "max_model_len": self.max_model_len}
            return httpx.Response(200, json={"data": [model]})
        if path == "/v1/completions" and body.get("stream"):
            return httpx.Response(200, content=self._events(body))
        if path == "/v1/completions":
            return httpx.Response(200, json=await self._complete(body))
        if path == "/weight_info":
            return httpx.Response(200, json={"weight_version": self.version})
        if path == "/update_weight_version":
            self.version = body["new_version"]
        if path == "/reset_prefix_cache":
            return httpx.Response(200, json={"success": True})
        return httpx.Response(200)

    async def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        completion = await self._sample(body)
        choice = {
            "prompt_token_ids": body["prompt"],
            "token_ids": list(completion.ids),
            "logprobs": {"token_logprobs": list(completion.logprobs)},
            "finish_reason": completion.finish_reason,
        }
        return {"choices": [choice | self.overrides]}

    async def _sample(self, body: dict[str, Any]) -> Completion:
        assert body["stop_token_ids"] == [self.engine.end_of_turn_id]
        assert body["ignore_eos"]
        sampling = Sampling(
            temperature=body["temperature"],
            top_p=body["top_p"],
            max_tokens=body["max_tokens"],
            stop=tuple(body["stop"]),
            seed=body["seed"],
        )
        return await asyncio.wrap_future(self.engine.submit(body["prompt"], sampling))

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        """Yield a completion as vLLM streams it: tokens in twos, then the reason why it ended, then what it took."""
        completion = await self._sample(body)
        for start in range(0, len(completion.ids), 2):
            choice = {
                "prompt_token_ids": None if start or self.hides_prompts else body["prompt"],
                "token_ids": list(completion.ids[start : start + 2]),
                "logprobs": {"token_logprobs": list(completion.logprobs[start : start + 2])},
                "finish_reason": None,
            }
            if self.breaks_off and start:
                raise httpx.ReadError("reset")
            yield event_of({"choices": [choice]})
        choice = {"token_ids": [], "logprobs": None, "finish_reason": completion.finish_reason}
        yield event_of({"choices": [choice | self.overrides]})
        yield event_of({"choices": [], "usage": {"prompt_tokens": len(body["prompt"])}})
        yield b"data: [DONE]\n\n"


def event_of(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()
