"""How fast chat models in the generator's roles make trajectories, against the usual pool of threads.

    python benchmarks/chat_model_speed.py

A chat server on 127.0.0.1, a process of its own, answers every call after 200 ms. Each task takes one round: planner,
rewriter, a search, observer, judge; so four calls, 0.8 s one after the other. The generator keeps all tasks in flight
on one event loop; the pool is 20 threads, each of which takes a task and calls the roles in turn, with the same prompts
and the same LangChain client, and stores nothing. The claim is five times the pool's trajectories per second.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from reporting import finish_rows, make_parser

from masksearch_agent.agent.prompts import FULL_PROMPTS
from masksearch_agent.agent.protocol import render_information
from masksearch_agent.calls.accounting import Spending
from masksearch_agent.calls.chat import open_chat_model
from masksearch_agent.calls.replies import Reply, parse_tagged
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.calls import ChatModelSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.generator.casting import cast_roles
from masksearch_agent.generator.role_prompts import (
    OBSERVER_PROMPT,
    PLANNER_PROMPT,
    REWRITER_PROMPT,
    NextNeeds,
    Queries,
    Reading,
)
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.judging.judge import Judgement, judge_prompt
from masksearch_agent.records import Hop, Passage, ScoredPassage, SearchTask
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import TraceStore

POOL_THREADS = 20


class CodeBook:
    """Finds the one passage that a query for an item's code asks for."""

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        return [[ScoredPassage(code_passage(query.rsplit(maxsplit=1)[-1]), 1.0)] for query in queries]

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        return self.search(queries, limit)


def code_passage(item: str) -> Passage:
    return Passage(f"p{item}", f"Item {item}", f"The code of item {item} is C{item}x.")


def code_task(item: int) -> SearchTask:
    hop = Hop(f"the code of item {item}", f"code of item {item}", f"C{item}x")
    question = f"What is the code of item {item}?"
    return SearchTask(f"task-{item}", "qa", question, ((f"C{item}x",),), hops=(hop,))


def play_role(system: str, user: str) -> str:
    """Reply as the role that the system prompt describes."""
    asked = re.search(r"code of item (\d+)\?", user)
    item = asked[1] if asked else ""
    if "<needs>" in system:
        return f"<thought>I need the code.</thought><needs>\nthe code of item {item}\n</needs>"
    if "<queries>" in system:
        return f"<queries>\ncode of item {item}\n</queries>"
    if "<findings>" in system:
        return f"<findings>[1] says it.</findings>\n<answer>\nC{item}x\n</answer>"
    return "<reason>It says so.</reason><verdict>right</verdict>"


async def serve(port_to: Connection, latency_s: float) -> None:
    """Answer chat completions for ever, each after the latency."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _read_head(reader):
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = json.loads(await reader.readexactly(int(length[1]) if length else 0))
            system, user = (message["content"] for message in body["messages"][:2])
            await asyncio.sleep(latency_s)
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": play_role(system, user)},
                "finish_reason": "stop",
            }
            usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
            reply = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            data = json.dumps({**reply, "usage": usage}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data)
                + data
            )
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    port_to.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _serve(port_to: Connection, latency_s: float) -> None:
    asyncio.run(serve(port_to, latency_s))


@contextmanager
def chat_server(latency_s: float) -> Iterator[str]:
    """Run the server in a process of its own and give its address."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(sender, latency_s), daemon=True)
    process.start()
    sender.close()  # Where the server ends early, receiving then fails instead of waiting for ever.
    try:
        yield f"http://127.0.0.1:{receiver.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def work_in_turn(model: Any, task: SearchTask) -> bool:
    """Make one trajectory the usual way; return whether the judge accepts it."""
    limits = AgentSettings()

    def ask(system: str, user: str, schema: type[Reply]) -> Any:
        return parse_tagged(str(model.invoke([("system", system), ("user", user)]).text), schema)

    state = f"Task:\n{task.question}"
    plan = ask(PLANNER_PROMPT.format(max_needs=limits.max_queries), state, NextNeeds)
    rewriter = REWRITER_PROMPT.format(max_queries=limits.max_queries)
    queries = ask(rewriter, f"{state}\n\nLook for now:\n{plan.needs[0]}", Queries).queries
    [hits] = CodeBook().search(queries, limits.passages_per_search)
    state = f"{state}\n\nSearch 1:\n{queries[0]}\n{render_information([hit.passage for hit in hits])}"
    observer = OBSERVER_PROMPT.format(answer_form="the short answer, in one line")
    reading = ask(observer, state, Reading)
    asked = judge_prompt(task, reading.answer[0], [hit.passage for hit in hits])
    verdict = ask(*(message.content for message in asked), Judgement)
    return verdict.verdict == "right" and reading.answer[0] == task.answers[0][0]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.2, help="Seconds until the server answers.")
    parser.add_argument("--concurrency", type=int, default=200, help="`generator.concurrency`.")
    arguments = parser.parse_args()
    # The server reads no key, but the client wants one.
    os.environ["OPENAI_API_KEY"] = "none"
    rows = []

    def add(how: str, wall: float, cpu: float, accepted: int) -> None:
        wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
        speed = arguments.tasks / wall_s
        rows.append(
            {"how": how, "wall s": wall_s, "CPU s": cpu_s, "accepted": accepted, "trajectories/s": speed}
        )

    with chat_server(arguments.latency) as url, tempfile.TemporaryDirectory() as scratch:
        chat = ChatModelSettings(model="openai:m", base_url=url)
        tasks = [code_task(arguments.seed * arguments.tasks + item) for item in range(arguments.tasks)]
        model = open_chat_model(chat)
        work_in_turn(model, tasks[0])
        wall, cpu = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(POOL_THREADS) as pool:
            accepted = sum(pool.map(lambda task: work_in_turn(model, task), tasks))
        add(f"pool of {POOL_THREADS} threads", wall, cpu, accepted)

        settings = GeneratorSettings(model=chat, judge="both", concurrency=arguments.concurrency)
        teacher, judge = cast_roles(settings, AgentSettings(), Spending())
        generator = TrajectoryGenerator(
            Search(CodeBook()), FULL_PROMPTS, AgentSettings(), settings, teacher, judge
        )
        with TraceStore(Path(scratch) / "traces.sqlite") as store:
            wall, cpu = time.perf_counter(), time.process_time()
            report = generator.run(tasks, store, "qa")
            add("generator", wall, cpu, report.accepted)
    finish_rows(arguments, [{**row, "times the pool": rows[0]["wall s"] / row["wall s"]} for row in rows])


if __name__ == "__main__":
    main()
