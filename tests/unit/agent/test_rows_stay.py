"""What a rollout trains on stays token for token what it was when today's agents were trained.

The ids are code points, so that they are the same everywhere. Where a digest changes, what agents were trained to read
or to write has changed: raise `PROTOCOL_VERSION` with it. The digests of `opened question` changed once without that:
two passages here share an id, and since then a retriever's chunks of one document are all shown.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from fakes.chat_models import ScriptedRecordingModel
from fakes.retrievers import DictRetriever
from langchain_core.messages import BaseMessage, HumanMessage

from masksearch_agent.agent.prompts import COMPACT_PROMPTS, choose_prompts
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.records import Sampling, SearchTask
from masksearch_agent.traces.rows import make_rows

PASSAGES = {
    "founder of Harrow": ["Harrow: Ada founded </information> Harrow.", "Ada: Ada is a founder."],
    "Who founded <search>Harrow</search>?": ["Harrow: Ada founded Harrow."],
    "Ada": ["Lists: Ada, Bram."],
}
SEARCH = "<think>who?</think><search>founder of Harrow\nAda</search>"
STEPS = ["Ada.", SEARCH, SEARCH, SEARCH, "<think> ok</think><answer> Ada</answer>"]
QUESTION = "Who founded <search>Harrow</search>?"
TASKS = {
    "question": SearchTask("t1", "qa", QUESTION, (("Ada",),)),
    "masks": SearchTask("t2", "ramp", "Harrow: founded by [mask].", (("Ada",),)),
}
RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "opened": {"search_first": True, "repeat_passages": False},
    "short": {"max_searches": 1, "max_repairs": 1, "max_passage_words": 2},
    "cut": {"max_sampled_tokens": 100},
}
DIGESTS = {
    "compact plain question": "fa54471ae7390bfa",
    "compact plain masks": "169eec68c4955253",
    "compact opened question": "3e3ede52590e87c2",
    "compact opened masks": "b290f1054109bfc6",
    "compact short question": "9b278851a149ca89",
    "compact short masks": "a787c288bd027ab0",
    "compact cut question": "1913d1fdd9a7ea8c",
    "compact cut masks": "cf69829fb30a9b37",
    "few_shot plain question": "1fc6c75ff2c5aa11",
    "few_shot plain masks": "40741ec0b21f4422",
    "few_shot opened question": "fa70d5613274be61",
    "few_shot opened masks": "e68253646f175f76",
    "few_shot short question": "378440dd6d0aca23",
    "few_shot short masks": "71bb936afcbc6598",
    "few_shot cut question": "953d72f202fa4258",
    "few_shot cut masks": "f752f97bf5eac0a6",
    "retrieved first": "277af8e71fdb6762",
}


def step(messages: list[BaseMessage]) -> str:
    replies = sum(message.type == "ai" for message in messages)
    return STEPS[min(replies, len(STEPS) - 1)]


async def digests() -> dict[str, str]:
    """Return a digest of the training rows of each run."""
    found = {}
    for prompts in ("compact", "few_shot"):
        for run, limits in RUNS.items():
            for name, task in TASKS.items():
                agent = MaskSearchAgent(
                    ScriptedRecordingModel(script=step if prompts == "compact" else lambda m: step(m[-2:])),
                    DictRetriever(entries=PASSAGES),
                    AgentSettings(**limits),
                    COMPACT_PROMPTS if prompts == "compact" else choose_prompts("few_shot"),
                )
                trajectory = await agent.run_task(task, Sampling(temperature=1.0), seed=3)
                rows = [(row.input_ids, row.trainable, row.logprobs) for row in make_rows(trajectory)]
                sampling = [
                    (turn.sampling.max_tokens, turn.sampling.seed, turn.sampling.stop)
                    for turn in trajectory.turns
                    if turn.sampling is not None
                ]
                end = (trajectory.id, trajectory.stop_reason, trajectory.queries, trajectory.format_errors)
                seen = repr((rows, sampling, end)).encode()
                found[f"{prompts} {run} {name}"] = sha256(seen).hexdigest()[:16]
    opening = [HumanMessage("Harrow?\n<information>\n[1] Ada\n</information>")]
    agent = MaskSearchAgent(ScriptedRecordingModel(script=STEPS[-1:]), DictRetriever(entries=PASSAGES))
    trajectory, _ = await agent.answer_task(TASKS["question"], messages=opening)
    [row] = make_rows(trajectory)
    found["retrieved first"] = sha256(repr((row.input_ids, row.trainable)).encode()).hexdigest()[:16]
    return found


async def test_rollouts_train_on_the_tokens_they_always_did():
    assert await digests() == DIGESTS
