"""Whatever calls a graph makes, each sampled token of the policy trains exactly once, and no other token ever does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from fakes.chat_models import Reply, ScriptedRecordingModel
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage, SystemMessage

from masksearch_agent.records import TrainingRow, Trajectory, Turn
from masksearch_agent.traces.recorder import CallRecording, Recorder
from masksearch_agent.traces.rows import make_rows

FIRST_SAMPLED_ID = 1_000
"""Above all ids of contexts, which are code points of ASCII."""


@dataclass(frozen=True)
class Call:
    """A call of a generated graph."""

    continues: int
    """Which earlier call of its run it continues, counted from the last one; beyond the first, it is a new root."""
    role: str
    new_messages: int
    sampled_tokens: int
    rewritten: int | None
    """Which message of the conversation so far reads differently now; None for none."""
    failures: int
    """How often the model fails before it replies."""
    attempts: int
    """How often the node runs, the replies of all but the last being lost."""


calls = st.builds(
    Call,
    continues=st.integers(0, 4),
    role=st.sampled_from(["policy", "policy", "rewriter", "judge"]),
    new_messages=st.integers(0, 2),
    sampled_tokens=st.integers(1, 3),
    rewritten=st.none() | st.none() | st.integers(0, 3),
    failures=st.integers(0, 1),
    attempts=st.integers(1, 2),
)


@dataclass
class Run:
    """A run of a generated graph: its recorder and what every call returned."""

    recorder: Recorder
    conversations: list[list[AnyMessage]] = field(default_factory=list)
    turn_ids: list[str] = field(default_factory=list)

    def opening_of(self, call: Call) -> tuple[list[AnyMessage], str | None]:
        """Return the conversation that a call sends and the turn that it names as its parent."""
        at = len(self.turn_ids) - 1 - call.continues
        if at < 0:
            return [SystemMessage("s"), HumanMessage("q")], None
        conversation = list(self.conversations[at])
        if call.rewritten is not None:
            place = call.rewritten % len(conversation)
            message = conversation[place]
            conversation[place] = message.model_copy(update={"content": f"{message.content}!"})
        return [*conversation, *(HumanMessage("more") for _ in range(call.new_messages))], self.turn_ids[at]


def play(runs: Sequence[Run], graph: Sequence[tuple[int, Call]]) -> ScriptedRecordingModel:
    """Make the calls of several runs one after the other; the k-th sampled token of all has the id 1000 + k."""
    next_id = FIRST_SAMPLED_ID
    failures_left = 0
    length = 0

    def script(messages: list[BaseMessage]) -> Reply:
        nonlocal next_id, failures_left
        if failures_left:
            failures_left -= 1
            raise ConnectionError("the model server is gone")
        ids = tuple(range(next_id, next_id + length))
        next_id += length
        return Reply(f"reply {ids[0]}", sampled_ids=ids, logprobs=tuple(-i / 1_000 for i in ids))

    model = ScriptedRecordingModel(script=script)
    for number, call in graph:
        run = runs[number]
        failures_left, length = call.failures, call.sampled_tokens
        conversation, parent_id = run.opening_of(call)
        recording = CallRecording(run.recorder, call.role, parent_id)
        replies = []
        while len(replies) < call.attempts:
            try:
                replies.append(model.invoke(conversation, recording=recording))
            except ConnectionError:
                continue
        run.conversations.append([*conversation, replies[-1]])
        run.turn_ids.append(replies[-1].response_metadata["turn_id"])
    return model


def rows_of(turns: tuple[Turn, ...]) -> list[TrainingRow]:
    return make_rows(Trajectory("run", "task", turns, answer="", stop_reason="answered"))


def trained_tokens(rows: Sequence[TrainingRow]) -> Counter[int]:
    pairs = ((token, flag) for row in rows for token, flag in zip(row.input_ids, row.trainable, strict=True))
    return Counter(token for token, flag in pairs if flag)


@settings(max_examples=150)
@given(graph=st.lists(st.tuples(st.integers(0, 1), calls), max_size=12))
def test_each_token_of_the_policy_trains_exactly_once_and_no_other_ever(graph: list[tuple[int, Call]]):
    overview = Recorder()
    runs = [Run(Recorder(overview=overview)) for _ in range(2)]
    model = play(runs, graph)

    seen = {
        (*sent, *turn.sampled_ids)
        for sent, turn in zip(model.sent, overview.turns, strict=True)
        if turn.role == "policy"
    }
    for turns in (*(run.recorder.turns for run in runs), overview.turns):
        rows = rows_of(turns)
        sampled = [token for turn in turns if turn.role == "policy" for token in turn.sampled_ids]
        assert trained_tokens(rows) == dict.fromkeys(sampled, 1)
        for row in rows:
            assert row.input_ids in seen, "a row is a sequence that the model really read and wrote"
            assert row.logprobs == tuple(
                -token / 1_000 if flag else 0.0
                for token, flag in zip(row.input_ids, row.trainable, strict=True)
            )
    own = [len(run.recorder.turns) for run in runs]
    assert own == [sum(call.attempts for n, call in graph if n == number) for number in range(2)]


@settings(max_examples=50)
@given(graph=st.lists(st.tuples(st.just(0), calls), min_size=1, max_size=8))
def test_a_fork_is_counted_where_a_named_turn_was_not_continued(graph: list[tuple[int, Call]]):
    run = Run(Recorder())
    play([run], graph)
    trajectory = Trajectory("run", "task", run.recorder.turns, answer="", stop_reason="answered")
    expected = sum(
        call.attempts
        for number, (_, call) in enumerate(graph)
        if call.continues < number and call.rewritten is not None
    )
    roots_at_first = sum(call.attempts for number, (_, call) in enumerate(graph) if call.continues >= number)
    assert trajectory.fork_count == expected
    assert sum(turn.parent_id is None for turn in trajectory.turns) == expected + roots_at_first
