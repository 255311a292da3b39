"""The generator as a LangGraph graph.

    plan -> rewrite -> search (one branch per query, in parallel) -> observe -> plan …
      |                                                                |
      '--------------------------> judge <-----------------------------'

An agent that searches for the question itself first (`AgentSettings.search_first`) begins at `search`.

The steps that the roles agree on are written in the agent's own protocol, with the prompts and limits of the
agent that will be trained, so a generated trajectory is one that this agent could have produced.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any, TypeVar

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send
from typing_extensions import TypedDict

from masksearch_agent.agent.opening import opening_messages, opening_query, opening_text
from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.agent.protocol import (
    PROTOCOL_VERSION,
    AnswerStep,
    SearchStep,
    clean_text,
    render_information,
    render_step,
)
from masksearch_agent.agent.state import SearchRound
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.errors import GenerationError, ReplyError
from masksearch_agent.generator.roles import CallLog, Findings, Judge, Plan, Teacher
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.records import Message, Passage, ScoredPassage, SearchTask, Trajectory, Turn, content_id
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import Search, cut_to_words, interleave
from masksearch_agent.traces.messages import to_messages
from masksearch_agent.traces.rows import POLICY_ROLE

__all__ = ("GeneratorContext", "GeneratorState", "Records", "build_generator_graph", "trajectory_of")

RecordT = TypeVar("RecordT")


class _Branch(TypedDict):
    query: str
    known: int
    """Passages that the run has shown, and that are not to be shown again."""


class Records:
    """Records beside the plain data that state holds of them, so that no node loads what another one had.

    They are found by the very dictionary that state holds: one that comes from a checkpoint is loaded anew.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[dict[str, Any], Any]] = {}

    def dump(self, record: Any) -> dict[str, Any]:
        """Return the data of a record, for state."""
        data = dump_record(record)
        # Held, so that its id stays its own.
        self._known[id(data)] = (data, record)
        return data

    def load(self, record_type: type[RecordT], data: dict[str, Any]) -> RecordT:
        """Return the record of data in state."""
        if id(data) not in self._known:
            self._known[id(data)] = (data, load_record(record_type, data, GenerationError))
        record: RecordT = self._known[id(data)][1]
        return record


class GeneratorInput(TypedDict):
    """What a run starts from: a `SearchTask` as a dictionary."""

    task: dict[str, Any]


class GeneratorState(TypedDict, total=False):
    """Working state of one trajectory; plain data, so any checkpointer can store it."""

    task: dict[str, Any]
    thought: str
    """What the last observation and the current plan say."""
    needs: list[str]
    queries: list[str]
    results: Annotated[dict[str, list[dict[str, Any]]], operator.or_]
    """The hits of each query so far."""
    rounds: list[SearchRound]
    steps: list[str]
    """The policy's steps so far, in the protocol."""
    answer: str
    rejection: str
    """Why a role failed, where one did."""
    accepted: bool
    verdict: str


@dataclass(frozen=True)
class GeneratorContext:
    """Run-scoped dependencies of the graph."""

    guard: LeakGuard | None = None
    log: CallLog = field(default_factory=CallLog)
    """Where roles that call a model write their calls."""
    records: Records = field(default_factory=Records)
    """What the run has loaded."""


def build_generator_graph(
    teacher: Teacher,
    judge: Judge,
    search: Search,
    prompts: PromptSet,
    agent_settings: AgentSettings | None = None,
    settings: GeneratorSettings | None = None,
) -> StateGraph[GeneratorState, GeneratorContext, GeneratorInput, GeneratorState]:
    """Build the graph; `prompts` and `agent_settings` are those of the agent to be trained."""
    agent_settings, settings = agent_settings or AgentSettings(), settings or GeneratorSettings()
    nodes = _Nodes(teacher, judge, search, prompts, agent_settings, settings)
    graph = StateGraph(
        GeneratorState, GeneratorContext, input_schema=GeneratorInput, output_schema=GeneratorState
    )
    graph.add_node("plan", nodes.plan)
    graph.add_node("rewrite", nodes.rewrite)
    graph.add_node("search", nodes.search_one, input_schema=_Branch)
    graph.add_node("observe", nodes.observe)
    graph.add_node("judge", nodes.decide)
    graph.add_conditional_edges(START, nodes.open, ["search", "plan"])
    graph.add_conditional_edges("plan", nodes.after_plan, ["rewrite", "judge"])
    graph.add_conditional_edges("rewrite", nodes.fan_out, ["search", "judge"])
    graph.add_edge("search", "observe")
    graph.add_conditional_edges("observe", nodes.after_observe, ["plan", "judge"])
    graph.add_edge("judge", END)
    return graph


def trajectory_of(
    state: Mapping[str, Any], run: GeneratorContext, prompts: PromptSet, producer: str, seed: int
) -> Trajectory:
    """Return the trajectory that a final state describes, as turns of text.

    The calls of the run's log stand before the step that they led to. Other steps, passages or verdicts give another
    id, so that no store takes it for what the same teacher made of the task with other settings.
    """
    log, rounds = run.log, _findings(state, run)
    task, answer = rounds.task, state.get("answer", "")
    turns: list[Turn] = []
    steps, shown = state.get("steps", []), list(rounds.passages)
    # Every search but an opening one is a step's.
    is_opened = len(shown) > sum("<search>" in step for step in steps)
    context = tuple(to_messages(opening_messages(task.question, task.kind, prompts, is_opened)))
    if is_opened:
        opening = context[-1]
        context = (*context[:-1], Message(opening.role, opening_text(opening.content, shown.pop(0))))
    for number, step in enumerate(steps):
        parent = turns[-1].id if turns else None
        turns.append(Turn(f"{number}", parent, POLICY_ROLE, context, step, model_version=producer))
        if number < len(shown):
            context = (Message("user", render_information(shown[number])),)
    written = [(turn.text, *(message.content for message in turn.context)) for turn in turns]
    read = [[passage.id for passage in found] for found in rounds.passages]
    accepted, verdict = state.get("accepted"), state.get("verdict", "")
    # The sort is stable, so calls stay in their order and before the step of their number.
    turns = sorted([*log.turns, *turns], key=_step_number)
    return Trajectory(
        id=content_id(task.id, producer, seed, PROTOCOL_VERSION, written, read, accepted, verdict),
        task_id=task.id,
        turns=tuple(turns),
        answer=answer,
        stop_reason="answered" if answer else "gave_up",
        retrieved=rounds.passages,
        queries=rounds.queries,
        producer=producer,
        seed=seed,
        protocol_version=PROTOCOL_VERSION,
        accepted=accepted,
        verdict=verdict,
        usage=log.usage if log.turns else None,
    )


@dataclass(frozen=True)
class _Nodes:
    """The nodes of one graph; the fields are the arguments of `build_generator_graph`.

    Routes are coroutines too: LangGraph hands a plain function to a thread, which takes longer than it does.
    """

    teacher: Teacher
    judge: Judge
    search: Search
    prompts: PromptSet
    agent_settings: AgentSettings
    settings: GeneratorSettings

    async def open(self, state: GeneratorState) -> list[Send] | str:
        if not self.agent_settings.search_first:
            return "plan"
        return [Send("search", _Branch(query=opening_query(state["task"]["question"]), known=0))]

    async def plan(self, state: GeneratorState, runtime: Runtime[GeneratorContext]) -> dict[str, Any]:
        try:
            plan = await self.teacher.plan(_findings(state, _context_of(runtime)))
        except ReplyError as failure:
            return {"needs": [], "rejection": str(failure)}
        thought = " ".join(part for part in (state.get("thought", ""), clean_text(plan.text)) if part)
        return {"needs": list(plan.needs), "thought": thought}

    async def rewrite(self, state: GeneratorState, runtime: Runtime[GeneratorContext]) -> dict[str, Any]:
        plan = Plan(state["thought"], tuple(state["needs"]))
        try:
            written = await self.teacher.rewrite(_findings(state, _context_of(runtime)), plan)
        except ReplyError as failure:
            return {"queries": [], "rejection": str(failure)}
        cleaned = dict.fromkeys(map(clean_text, written))
        queries = [query for query in cleaned if query][: self.agent_settings.max_queries]
        if not queries:
            return {"queries": []}
        step = render_step(SearchStep(state["thought"], tuple(queries)))
        return {"queries": queries, "steps": [*state.get("steps", []), step]}

    async def search_one(self, state: _Branch, runtime: Runtime[GeneratorContext]) -> dict[str, Any]:
        run = _context_of(runtime)
        limit = self.agent_settings.passages_per_search + state["known"]
        [found] = await self.search.asearch([state["query"]], limit, run.guard)
        return {"results": {state["query"]: [run.records.dump(hit) for hit in found]}}

    async def observe(self, state: GeneratorState, runtime: Runtime[GeneratorContext]) -> dict[str, Any]:
        run = _context_of(runtime)
        # Nothing was asked by a step yet: what was found is what the opening search found.
        queries = state.get("queries") or list(state["results"])
        found = [state["results"][query] for query in queries]
        hits = [[run.records.load(ScoredPassage, hit) for hit in of_query] for of_query in found]
        shown = interleave(hits, self._passages_shown(state), self._known_ids(state))
        passages = [cut_to_words(hit.passage, self.agent_settings.max_passage_words) for hit in shown]
        round_ = SearchRound(queries=queries, passages=[run.records.dump(passage) for passage in passages])
        rounds = [*state.get("rounds", []), round_]
        try:
            observation = await self.teacher.observe(_findings({**state, "rounds": rounds}, run))
        except ReplyError as failure:
            return {"rounds": rounds, "rejection": str(failure)}
        thought = clean_text(observation.text)
        update: dict[str, Any] = {"rounds": rounds, "thought": thought}
        if observation.answer is not None:
            lines = [clean_text(line) for line in observation.answer.split("\n")]
            step = AnswerStep(thought, "\n".join(line for line in lines if line))
            update |= {"answer": step.answer, "steps": [*state.get("steps", []), render_step(step)]}
        return update

    async def decide(self, state: GeneratorState, runtime: Runtime[GeneratorContext]) -> dict[str, Any]:
        run = _context_of(runtime)
        if state.get("rejection"):
            return {"accepted": False, "verdict": state["rejection"]}
        if not state.get("answer"):
            return {"accepted": False, "verdict": "not supported by the retrieved passages"}
        # Without the log: the judge sees the policy's steps alone.
        seen = GeneratorContext(records=run.records)
        trajectory = trajectory_of(state, seen, self.prompts, self.teacher.name, self.settings.seed)
        task = run.records.load(SearchTask, state["task"])
        try:
            verdict = await self.judge.judge(task, trajectory, run.log)
        except ReplyError as failure:
            return {"accepted": False, "verdict": str(failure)}
        return {"accepted": verdict.is_accepted, "verdict": verdict.reason}

    async def after_plan(self, state: GeneratorState) -> str:
        has_round_left = len(state.get("rounds", [])) < self.settings.max_rounds
        return "rewrite" if state["needs"] and has_round_left else "judge"

    async def fan_out(self, state: GeneratorState) -> list[Send] | str:
        known = len(self._known_ids(state))
        return [Send("search", _Branch(query=query, known=known)) for query in state["queries"]] or "judge"

    async def after_observe(self, state: GeneratorState) -> str:
        return "judge" if state.get("answer") or state.get("rejection") else "plan"

    def _passages_shown(self, state: GeneratorState) -> int:
        """Return how many passages the searches of a task show (`GeneratorSettings.fewer_passages`)."""
        most = self.agent_settings.passages_per_search
        drawn = random.Random(f"passages:{self.settings.seed}:{state['task']['id']}").random()
        below = accumulate(self.settings.fewer_passages)
        return next((min(few, most) for few, share in enumerate(below, start=1) if drawn < share), most)

    def _known_ids(self, state: GeneratorState) -> set[str]:
        """Return the ids of the passages that are not to be shown again."""
        if self.agent_settings.repeat_passages:
            return set()
        return {passage["id"] for found in state.get("rounds", []) for passage in found["passages"]}


def _step_number(turn: Turn) -> int:
    """Return the number that a turn's id begins with: of the step that it is, or that it led to."""
    number = turn.id.partition(".")[0]
    return int(number) if number.isdecimal() else 0


def _context_of(runtime: Runtime[GeneratorContext]) -> GeneratorContext:
    # A graph that a server runs has none.
    return runtime.context or GeneratorContext()


def _findings(state: Mapping[str, Any], run: GeneratorContext) -> Findings:
    rounds = state.get("rounds", [])
    return Findings(
        task=run.records.load(SearchTask, state["task"]),
        queries=tuple(tuple(found["queries"]) for found in rounds),
        passages=tuple(
            tuple(run.records.load(Passage, passage) for passage in found["passages"]) for found in rounds
        ),
        log=run.log,
    )
