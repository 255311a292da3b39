"""Twenty thousand agent calls: what the process holds meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from pathlib import Path

from fakes.backends import TableBackend
from interruptions import Found
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from masksearch_agent import MaskSearchAgent
from masksearch_agent.concurrency import run_many
from masksearch_agent.records import Passage

__all__ = ("long_run",)

_MOST_GROWTH_MB = 8.0
"""Of resident memory between the second tenth and the end: an allocator's own unrest, not a leak."""


class _Scripted(GenericFakeChatModel):
    """Searches, and then answers with what it found."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):  # type: ignore[no-untyped-def]
        is_told = "<information>" in str(messages[-1].content)
        reply = (
            "<think></think><answer>Ada Holt</answer>" if is_told else "<think></think><search>mayor</search>"
        )
        self.messages = iter([AIMessage(reply)])
        return super()._generate(messages, stop, run_manager, **kwargs)


def _held() -> tuple[float, int, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return megabytes, threading.active_count(), len(os.listdir("/proc/self/fd"))


def long_run(calls: int) -> Found:
    """Ask an agent so often: by `ainvoke`, fifty at once, in a new event loop for each tenth; two tenths one by one."""
    found = Found()
    passage = Passage("p", "Aldin", "The mayor of Aldin is Ada Holt.")
    agent = MaskSearchAgent(_Scripted(messages=iter([])), TableBackend({"mayor": [passage]}))
    measured = []
    part = calls // 10
    for tenth in range(10):
        if tenth % 5 == 4:
            answers = [agent.invoke(f"Who is mayor {n}?") for n in range(part)]
        else:
            answers = run_many(_ask(agent, part))
        if any(answer.answer != "Ada Holt" for answer in answers):
            found.faults.append("agent calls: a wrong answer")
        del answers
        measured.append(_held())
        sys.stderr.write(f"agent calls: {(tenth + 1) * part}: {measured[-1]}\n")
    (early, threads, files), (late, threads_late, files_late) = measured[1], measured[-1]
    if late - early > _MOST_GROWTH_MB:
        found.faults.append(f"agent calls: memory grew from {early:.0f} to {late:.0f} MB")
    if (threads_late, files_late) > (threads, files):
        found.faults.append(
            f"agent calls: {threads}, {files} became {threads_late}, {files_late} threads and files"
        )
    told = (
        f"{early:.0f} MB after a fifth, {late:.0f} MB at the end; {threads} and {threads_late} threads, "
        f"{files} and {files_late} file descriptors"
    )
    found.add("agent calls", calls, told)
    return found


async def _ask(agent: MaskSearchAgent, count: int) -> list:  # type: ignore[type-arg]
    answers = []
    for first in range(0, count, 50):
        questions = [f"Who is mayor {number}?" for number in range(first, min(first + 50, count))]
        answers += await asyncio.gather(*map(agent.ainvoke, questions))
    return answers
