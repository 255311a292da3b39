"""A local chat server that plays the generator's roles, with the faults of a bad day, or another part; its client."""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from masksearch_agent.records import Hop, Passage, SearchTask

FAULTS = ("429", "503", "slow", "reset", "html", "nonsense")
"""What the server does instead of answering, at random; storms are of 429 alone."""
_STREAMED_CHARS = 4
_DRAWN = tuple(fault for fault in FAULTS for _ in range(1 if fault == "slow" else 3))


def code_task(number: int) -> SearchTask:
    """Return a question that `code_passage(number)` answers."""
    question = f"What is the code of item {number}?"
    hop = Hop(f"the code of item {number}", f"code of item {number}", f"C{number}x")
    return SearchTask(f"task-{number}", "qa", question, ((f"C{number}x",),), hops=(hop,))


def code_passage(number: int) -> Passage:
    return Passage(f"p{number}", f"Item {number}", f"The code of item {number} is C{number}x.")


def play_role(messages: list[dict[str, str]]) -> str:
    """Reply as the role that the system prompt describes, to a `code_task`."""
    system, user = messages[0]["content"], messages[1]["content"]
    found = re.search(r"What is the code of item (\d+)\?", user)
    assert found, user
    number = found[1]
    told = re.search(rf"The code of item {number} is (\w+)\.", user)
    if "<needs>" in system:
        return f"<thought>I need the code.</thought><needs>\nthe code of item {number}\n</needs>"
    if "<queries>" in system:
        return f"<queries>\ncode of item {number}\n</queries>"
    if "<findings>" in system:
        answer = told[1] if told else ""
        return f"<findings>The code is {answer or 'not told'}.</findings>\n<answer>\n{answer}\n</answer>"
    return "<reason>It says so.</reason><verdict>right</verdict>"


class ChatServer:
    """An OpenAI-style `/v1/chat/completions` on 127.0.0.1.

    Args:
        fault_share: Share of the calls that meet a random fault.
        storm_every: Calls between two storms of 429; 0 for none.
        storm_length: Calls of a storm, all refused.
        latency_s: Time that a good reply takes.
        slow_s: Time that a `slow` fault takes; longer than the client waits, if it is to be a fault.
        reply: Writes the reply to messages; it may take its time, as each call is a thread.
    """

    def __init__(
        self,
        fault_share: float = 0.0,
        storm_every: int = 0,
        storm_length: int = 0,
        latency_s: float = 0.0,
        slow_s: float = 0.0,
        seed: int = 0,
        reply: Callable[[list[dict[str, str]]], str] = play_role,
    ) -> None:
        self.reply = reply
        self.fault_share = fault_share
        self.storm_every = storm_every
        self.storm_length = storm_length
        self.latency_s = latency_s
        self.slow_s = slow_s
        self.served: Counter[str] = Counter()
        self.keys_seen: set[str] = set()
        self.last_request: dict[str, Any] = {}
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ChatServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _draw(self) -> str:
        with self._lock:
            number = self.served.total()
            in_storm = (
                bool(self.storm_every) and number % (self.storm_every + self.storm_length) >= self.storm_every
            )
            is_faulty = self._random.random() < self.fault_share
            what = "429" if in_storm else self._random.choice(_DRAWN) if is_faulty else "good"
            self.served[what] += 1
            return what

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.last_request = body
                server.keys_seen.add(self.headers.get("authorization", ""))
                what = server._draw()
                if what == "reset":
                    # Closing with a linger of 0 seconds sends RST instead of FIN.
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.close_connection = True
                    self.connection.close()
                    return
                if what == "429":
                    self._send(429, b'{"error": {"message": "slow down"}}', {"retry-after": "0.05"})
                elif what == "503":
                    self._send(503, b"<h1>overloaded</h1>")
                elif what == "html":
                    self._send(200, b"<h1>Welcome to nginx</h1>", {"content-type": "text/html"})
                else:
                    time.sleep(server.slow_s if what == "slow" else server.latency_s)
                    text = "I would rather talk." if what == "nonsense" else server.reply(body["messages"])
                    if body.get("stream"):
                        self.close_connection = True
                        self._send(200, _events(body, text), {"content-type": "text/event-stream"})
                    else:
                        self._send(200, json.dumps(_completion(body, text)).encode())

            def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                try:
                    self.send_response(status)
                    for name, value in {"content-type": "application/json", **(headers or {})}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True  # the client gave up waiting, or was killed

        return Handler


def _completion(body: dict[str, Any], text: str) -> dict[str, Any]:
    read = sum(len(message["content"].split()) for message in body["messages"])
    wrote = len(text.split())
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote},
    }


def _events(body: dict[str, Any], text: str) -> bytes:
    """Return a reply as it is streamed, a few characters at a time."""
    pieces = [text[start : start + _STREAMED_CHARS] for start in range(0, len(text), _STREAMED_CHARS)]
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        *({"content": p} for p in pieces),
        {},
    ]
    event = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
    lines = []
    for place, delta in enumerate(deltas):
        reason = "stop" if place == len(deltas) - 1 else None
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        lines.append(f"data: {json.dumps({**event, 'choices': [choice]})}\n\n")
    return ("".join(lines) + "data: [DONE]\n\n").encode()


class HttpChatModel(BaseChatModel):
    """The least client that an OpenAI-style server needs; it neither retries nor mends anything."""

    url: str
    api_key: str = "sk-test-0123456789"

    _client: Any = PrivateAttr(default=None)

    @property
    def _llm_type(self) -> str:
        return "http"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        raise NotImplementedError("this client is async only")

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        self._client = self._client or httpx.AsyncClient(timeout=None, trust_env=False)
        roles = {"system": "system", "human": "user", "ai": "assistant"}
        body = {
            "model": "fake",
            "messages": [{"role": roles[m.type], "content": str(m.text)} for m in messages],
        }
        headers = {"authorization": f"Bearer {self.api_key}"}
        response = await self._client.post(f"{self.url}/chat/completions", json=body, headers=headers)
        response.raise_for_status()
        data = response.json()
        usage = data["usage"]
        message = AIMessage(
            data["choices"][0]["message"]["content"],
            usage_metadata={
                "input_tokens": usage["prompt_tokens"],
                "output_tokens": usage["completion_tokens"],
                "total_tokens": usage["total_tokens"],
            },
        )
        return ChatResult(generations=[ChatGeneration(message=message)])
