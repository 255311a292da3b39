from __future__ import annotations

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.chat_models import ScriptedRecordingModel
from langchain_core.language_models import FakeListChatModel

from masksearch_agent.errors import TraceError
from masksearch_agent.records import Message, Turn
from masksearch_agent.traces.recorder import Recorder, RecordingModel, new_turn_id

SYSTEM, QUESTION, INFORMATION = Message("system", "s"), Message("user", "q"), Message("user", "found")


def make_turn(id: str, parent: str | None, context: tuple[Message, ...], ids: range, text: str = "") -> Turn:
    """Return a turn that reads the first two ids and samples the others."""
    context_ids, sampled = tuple(ids)[:2], tuple(ids)[2:]
    return Turn(
        id=id,
        parent_id=parent,
        role="policy",
        context=context,
        text=text or f"reply {id}",
        context_ids=context_ids,
        sampled_ids=sampled,
        logprobs=(-1.0,) * len(sampled),
    )


@pytest.fixture
def recorder() -> Recorder:
    """Return a recorder of a -> b and a -> c."""
    recorder = Recorder()
    recorder.add(make_turn("a", None, (SYSTEM, QUESTION), range(1, 5)))
    recorder.add(make_turn("b", "a", (INFORMATION,), range(10, 15)))
    recorder.add(make_turn("c", "a", (), range(20, 23)))
    return recorder


def test_a_path_concatenates_to_what_the_model_saw_and_wrote(recorder: Recorder):
    assert recorder.ids("b") == [1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert recorder.ids("c") == [1, 2, 3, 4, 20, 21, 22]
    assert [turn.id for turn in recorder.path("b")] == ["a", "b"]
    assert recorder.messages("b") == [
        SYSTEM,
        QUESTION,
        Message("assistant", "reply a"),
        INFORMATION,
        Message("assistant", "reply b"),
    ]


def test_turns_come_in_the_order_in_which_they_finished(recorder: Recorder):
    assert [turn.id for turn in recorder.turns] == ["a", "b", "c"]
    assert "b" in recorder
    assert "d" not in recorder


def test_an_id_is_taken_once(recorder: Recorder):
    with pytest.raises(TraceError, match="'a' is recorded already"):
        recorder.add(make_turn("a", None, (QUESTION,), range(3)))
    assert len(recorder.turns) == 3


def test_a_parent_must_be_known(recorder: Recorder):
    with pytest.raises(TraceError, match=r"'d' names the parent 'x'.*one recorder"):
        recorder.add(make_turn("d", "x", (QUESTION,), range(3)))


@pytest.mark.parametrize(
    ("parent", "conversation", "expected"),
    [
        (None, [SYSTEM, QUESTION], (None, 0)),
        ("gone", [SYSTEM, QUESTION], (None, 0)),
        ("a", [SYSTEM, QUESTION, Message("assistant", "reply a"), INFORMATION], ("a", 3)),
        ("a", [SYSTEM, QUESTION, Message("assistant", "reply a")], ("a", 3)),
        ("a", [SYSTEM, QUESTION, Message("assistant", "reply A"), INFORMATION], (None, 0)),
        ("a", [SYSTEM, Message("user", "Q"), Message("assistant", "reply a"), INFORMATION], (None, 0)),
        ("a", [SYSTEM, QUESTION], (None, 0)),
    ],
    ids=["root", "unknown", "extends", "nothing new", "changed reply", "changed question", "shorter"],
)
def test_a_conversation_extends_its_parent_only_where_it_repeats_it(
    recorder: Recorder, parent: str | None, conversation: list[Message], expected: tuple[str | None, int]
):
    assert recorder.split_known(parent, conversation) == expected


def test_threads_lose_no_turn_and_take_no_id_twice():
    recorder = Recorder()
    recorder.add(make_turn("root", None, (QUESTION,), range(3)))

    def add(number: int) -> int:
        try:
            recorder.add(make_turn(f"t{number // 2}", "root", (INFORMATION,), range(4)))
        except TraceError:
            return 0
        return len(recorder.turns) and 1

    with ThreadPoolExecutor(8) as pool:
        added = sum(pool.map(add, range(400)))
    assert added == 200
    assert {turn.id for turn in recorder.turns} == {"root", *(f"t{n}" for n in range(200))}


def test_a_resumed_run_gets_its_earlier_turns_back(recorder: Recorder):
    resumed = Recorder(recorder.turns)
    assert resumed.turns == recorder.turns
    resumed.add(make_turn("d", "b", (QUESTION,), range(30, 33)))
    assert resumed.ids("d") == [1, 2, 3, 4, 10, 11, 12, 13, 14, 30, 31, 32]
    assert "d" not in recorder


def test_an_overview_holds_the_turns_of_all_runs_and_no_run_sees_another_s():
    overview = Recorder()
    first, second = Recorder(overview=overview), Recorder(overview=overview)
    first.add(make_turn("a", None, (QUESTION,), range(3)))
    second.add(make_turn("b", None, (QUESTION,), range(3)))
    first.add(make_turn("c", "a", (INFORMATION,), range(10, 13)))
    assert [turn.id for turn in overview.turns] == ["a", "b", "c"]
    assert [turn.id for turn in first.turns] == ["a", "c"]
    assert [turn.id for turn in second.turns] == ["b"]
    with pytest.raises(TraceError, match="'d' names the parent 'a'"):
        second.add(make_turn("d", "a", (INFORMATION,), range(3)))
    assert overview.ids("c") == [0, 1, 2, 10, 11, 12]


def test_a_fork_is_logged_with_its_reason(recorder: Recorder, caplog: pytest.LogCaptureFixture):
    fork = make_turn("d", None, (SYSTEM,), range(3))
    with caplog.at_level(logging.INFO, "masksearch_agent.traces.recorder"):
        recorder.add(fork)
        recorder.add(dataclasses.replace(fork, id="e", forked_from="b"))
        recorder.add(dataclasses.replace(fork, id="f", forked_from="elsewhere"))
    assert [record.getMessage() for record in caplog.records] == [
        "turn e (policy) cannot continue turn b, whose conversation was rewritten; it starts a sequence of its own",
        "turn f (policy) cannot continue turn elsewhere, which is not recorded here; it starts a sequence of its own",
    ]


def test_new_ids_differ():
    assert len({new_turn_id() for _ in range(1000)}) == 1000


def test_a_recording_model_is_told_from_an_ordinary_one():
    assert isinstance(ScriptedRecordingModel(script=["x"]), RecordingModel)
    assert not isinstance(FakeListChatModel(responses=["x"]), RecordingModel)
