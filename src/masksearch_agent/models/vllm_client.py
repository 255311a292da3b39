"""A client of one vLLM server: token ids in, token ids and log-probabilities out, and weights exchanged in place.

Requests go through vLLM's `/v1/completions`, which takes a prompt as ids and, with `return_token_ids`, gives back
ids. One thread with an event loop of its own sends them, so that callers in any thread and any event loop share the
connections and the limit on concurrent requests; cancelling a request's future closes its connection, and vLLM then
stops sampling.

Replacing weights needs the server's development endpoints (`VLLM_SERVER_DEV_MODE=1`, vLLM 0.32 or newer).
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from masksearch_agent.errors import ServingError
from masksearch_agent.models.heard import TokenListener
from masksearch_agent.models.recording import Completion
from masksearch_agent.records import Sampling

__all__ = ("VLLMClient",)

ResultT = TypeVar("ResultT")

_BUSY_STATUS = frozenset({429, 502, 503, 504})
_CONNECT_TIMEOUT_S = 10.0
_LONGEST_PAUSE_S = 8.0
_MAX_ATTEMPTS = 5
"""How often a request is sent where the connection fails or the server is overloaded."""


class _ServerBusyError(Exception):
    """The server, or a proxy before it, asks to be tried again."""


_WORTH_RETRYING = (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError, _ServerBusyError)


_Reader: TypeAlias = Callable[[httpx.Response], Awaitable[Any]]


async def _read_whole(response: httpx.Response) -> Any:
    await response.aread()
    return response.json() if response.content else None


async def _read_events(hear: TokenListener, response: httpx.Response) -> Any:
    """Read a completion in pieces, and return it as it would have come in one.

    Raises:
        ServingError: A piece is none of a completion, or the connection was lost within the reply, which is not sampled
            again then: half of it was heard.
    """
    ids: list[int] = []
    logprobs: list[float] = []
    reply: dict[str, Any] = {"prompt_token_ids": None, "finish_reason": None}
    usage: Any = None
    try:
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                ids += choice["token_ids"]
                logprobs += choice["logprobs"]["token_logprobs"] if choice["token_ids"] else ()
                reply |= {key: choice[key] for key in reply if choice.get(key) is not None}
                hear(choice["token_ids"])
    except httpx.TransportError as failure:
        if not ids:
            raise
        raise ServingError(f"the model server broke off after {len(ids)} tokens: {failure}") from failure
    except (KeyError, TypeError, ValueError) as failure:
        raise ServingError(
            f"the model server streamed a piece without token ids or log-probabilities: {line[:300]}; serve the model "
            f"with vLLM 0.10.2 or newer, and see the server's log"
        ) from failure
    whole = {**reply, "token_ids": ids, "logprobs": {"token_logprobs": logprobs}}
    return {"choices": [whole], "usage": usage}


class VLLMClient:
    """Talks to one server from any thread.

    Args:
        base_url: Where the server is, without `/v1`: `http://127.0.0.1:8000`.
        max_concurrent_requests: Prompts that the server has at most; further ones wait here.
        timeout_s: How long a reply may take, in seconds, once the server has the request.
        transport: What carries the requests; None for the network.
    """

    def __init__(
        self,
        base_url: str,
        max_concurrent_requests: int = 64,
        timeout_s: float = 600.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self.max_concurrent_requests = max_concurrent_requests
        self.timeout_s = timeout_s
        self._transport = transport
        self._lock = threading.Lock()
        self._exchange_lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._http: httpx.AsyncClient | None = None
        self._places = asyncio.Semaphore(max_concurrent_requests)

    def submit(
        self,
        model: str,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        end_of_turn_id: int,
        hear: TokenListener | None = None,
        version: Callable[[], str] = str,
    ) -> Future[Completion]:
        """Send a prompt to the model that the server knows under a name.

        `version` is asked what its weights are called when the prompt is sent. Nothing that the checkpoint's
        `generation_config.json` says is added to the settings. The future's exception is a `ServingError` where the
        server cannot be reached, refuses, or leaves out ids or log-probabilities.
        """
        body = {
            "model": model,
            "prompt": list(prompt_ids),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stop": list(sampling.stop),
            "include_stop_str_in_output": True,
            # A stop string may be a special token, and only the end of the turn ends a reply.
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "ignore_eos": True,
            "stop_token_ids": [end_of_turn_id],
            # Said here because vLLM would else take them from the checkpoint.
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "logprobs": 0,
            "return_token_ids": True,
        }
        if hear is not None:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        read = _read_whole if hear is None else partial(_read_events, hear)
        return self._start(self._complete(body, read, version))

    async def _complete(self, body: dict[str, Any], read: _Reader, version: Callable[[], str]) -> Completion:
        async with self._places:
            model_version = version()
            reply = await self._request("POST", "/v1/completions", read, json=body)
        try:
            [choice] = reply["choices"]
            prompt_ids, ids = choice["prompt_token_ids"], tuple(choice["token_ids"])
            if prompt_ids is None and reply["usage"]["prompt_tokens"] == len(body["prompt"]):
                # vLLM leaves them out of the stream of a prompt that it reads in several passes.
                prompt_ids = body["prompt"]
            logprobs = tuple(map(float, choice["logprobs"]["token_logprobs"]))
            finish_reason = choice["finish_reason"]
        except (KeyError, TypeError, ValueError) as failure:
            raise ServingError(
                f"{self.base_url} answered without token ids or log-probabilities ({type(failure).__name__}: "
                f"{failure}); serve the model with vLLM 0.10.2 or newer"
            ) from failure
        if prompt_ids != body["prompt"]:
            raise ServingError(
                f"{self.base_url} did not read the prompt as it was sent; do not let it truncate"
            )
        if finish_reason not in ("stop", "length") or not ids or len(ids) != len(logprobs):
            raise ServingError(
                f"{self.base_url} ended a request with {finish_reason!r} after {len(ids)} tokens and {len(logprobs)} "
                f"log-probabilities; expected `stop` or `length` and one for each token"
            )
        return Completion(ids, logprobs, finish_reason, model_version=model_version)

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Send no prompt inside the context, in which the server's weights may change.

        It begins once all prompts that were submitted before are answered.
        """
        taken: list[bool] = []
        with self._exchange_lock:
            taking = self._start(self._take_all_places(taken))
            try:
                taking.result()
                yield
            finally:  # Also where Ctrl-C ends the waiting: what is asked later would wait for ever otherwise.
                taking.cancel()
                self._start(self._free_places(taken)).result()

    async def _take_all_places(self, taken: list[bool]) -> None:
        while len(taken) < self.max_concurrent_requests:
            taken.append(await self._places.acquire())

    async def _free_places(self, taken: list[bool]) -> None:
        for _ in taken:
            self._places.release()

    def served_model(self) -> tuple[str, int]:
        """Return the name of the model that the server has, and the tokens that it reads at most."""
        reply = self._call("GET", "/v1/models")
        try:
            model = reply["data"][0]
            return str(model["id"]), int(model["max_model_len"])
        except (LookupError, TypeError) as failure:
            raise ServingError(
                f"{self.base_url} does not say how many tokens its model reads, so it is not vLLM; `masksearch serve` "
                f"starts one, and any other server can be used through LangChain's chat model for it"
            ) from failure

    def server_info(self) -> dict[str, Any]:
        """Return the server's resolved configuration."""
        return dict(self._call("GET", "/server_info", params={"config_format": "json"})["vllm_config"])

    def weight_version(self) -> str:
        """Return what the server says its weights are."""
        return str(self._call("GET", "/weight_info")["weight_version"])

    def reload_weights(self, directory: Path, version: str) -> None:
        """Have the server read other weights of the same shapes, once all requests are answered.

        What it cached under the old weights is dropped. The folder is a checkpoint, as the server's machine sees it.

        Raises:
            ServingError: It failed; vLLM does not survive a checkpoint that it cannot read.
        """
        self._call("POST", "/pause", params={"mode": "wait"})
        arguments = {"weights_path": str(directory.resolve())}
        self._call("POST", "/collective_rpc", json={"method": "reload_weights", "kwargs": arguments})
        self.label_weights(version)
        self._call("POST", "/resume")

    def label_weights(self, version: str) -> None:
        """Drop what the server cached under its old weights, and name the new ones."""
        if not self._call("POST", "/reset_prefix_cache")["success"]:
            raise ServingError(f"{self.base_url} did not drop what it cached under the old weights")
        self._call("POST", "/update_weight_version", json={"new_version": version})

    def close(self) -> None:
        """Close the connections and stop the thread; a later request starts it again."""
        with self._lock:
            loop, thread, http = self._loop, self._thread, self._http
            self._loop = self._thread = self._http = None
        if loop is not None and thread is not None and http is not None:
            asyncio.run_coroutine_threadsafe(http.aclose(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _start(self, request: Coroutine[Any, Any, ResultT]) -> Future[ResultT]:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._places = asyncio.Semaphore(self.max_concurrent_requests)
                self._http = httpx.AsyncClient(
                    base_url=self.base_url,
                    timeout=httpx.Timeout(self.timeout_s, connect=_CONNECT_TIMEOUT_S, pool=None),
                    limits=httpx.Limits(max_connections=self.max_concurrent_requests),
                    transport=self._transport,
                )
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="masksearch-vllm", daemon=True
                )
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(request, self._loop)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        return self._start(self._request(method, path, **arguments)).result()

    async def _request(self, method: str, path: str, read: _Reader = _read_whole, **arguments: Any) -> Any:
        """Send a request, again where that may help, and return what is read of the reply."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_WORTH_RETRYING),
            wait=wait_random_exponential(multiplier=0.25, max=_LONGEST_PAUSE_S),
            stop=stop_after_attempt(_MAX_ATTEMPTS),
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    return await self._request_once(method, path, read, **arguments)
        except _WORTH_RETRYING as failure:
            raise ServingError(
                f"the model server at {self.base_url} did not answer {_MAX_ATTEMPTS} attempts ({failure}); see "
                f"whether it runs, or start one with `masksearch serve`"
            ) from failure
        except httpx.TimeoutException as failure:
            raise ServingError(
                f"the model server at {self.base_url} took longer than {self.timeout_s:g} s; lower the number of "
                f"concurrent requests or raise `timeout_s`"
            ) from failure
        except httpx.HTTPError as failure:
            raise ServingError(f"the model server at {self.base_url} cannot be used: {failure}") from failure

    async def _request_once(self, method: str, path: str, read: _Reader, **arguments: Any) -> Any:
        assert self._http is not None
        async with self._http.stream(method, path, **arguments) as response:
            if response.is_error:
                await response.aread()
            if response.status_code in _BUSY_STATUS:
                raise _ServerBusyError(f"status {response.status_code}")
            if response.status_code == 404 and not path.startswith("/v1/"):
                raise ServingError(
                    f"{self.base_url} has no {path}, which exchanging weights needs; start the server with `masksearch "
                    f"serve --refreshable`, or vLLM 0.32 or newer with `VLLM_SERVER_DEV_MODE=1`"
                )
            if response.is_error:
                raise ServingError(
                    f"{self.base_url}{path} answered with status {response.status_code}: {response.text[:500]}"
                )
            return await read(response)
