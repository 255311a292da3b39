"""What every recording chat model must do, whatever samples its tokens.

Subclass `RecordingModelConformance` and provide the fixture `subject`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage

from masksearch_agent.records import Message, Sampling, Turn
from masksearch_agent.traces.recorder import CallRecording, Recorder, RecordingModel

OPENING: list[AnyMessage] = [SystemMessage("Answer the question."), HumanMessage("Who founded Harrow Ltd?")]
INFORMATION = HumanMessage("<information>\n[1] Ada Fenwick: a founder\n</information>")


@dataclass(frozen=True)
class Subject:
    """A model under test, and the list to which every call appends the ids that it really sent."""

    model: BaseChatModel
    sent: list[tuple[int, ...]]


def call(
    subject: Subject,
    messages: Sequence[AnyMessage],
    recorder: Recorder,
    parent_id: str | None = None,
    role: str = "policy",
    **keywords: Any,
) -> tuple[AIMessage, Turn]:
    """Call the model and return its reply with the turn that it recorded."""
    recording = CallRecording(recorder, role, parent_id, keywords.pop("sampling", None))
    reply = subject.model.invoke(list(messages), recording=recording, **keywords)
    assert isinstance(reply, AIMessage)
    [turn] = recorder.path(reply.response_metadata["turn_id"])[-1:]
    return reply, turn


class RecordingModelConformance:
    """Inherit to test a model; each test makes two short calls at most."""

    @pytest.fixture
    def subject(self) -> Subject:
        raise NotImplementedError("provide the model under test")

    def test_it_is_a_recording_model(self, subject: Subject):
        assert isinstance(subject.model, RecordingModel)
        assert subject.model.is_recording_model
        assert subject.model.model_version

    def test_a_turn_holds_exactly_what_was_sent_and_its_text(self, subject: Subject):
        reply, turn = call(subject, OPENING, Recorder())
        assert turn.parent_id is None
        assert turn.context_ids == subject.sent[0]
        assert turn.context == (
            Message("system", "Answer the question."),
            Message("user", "Who founded Harrow Ltd?"),
        )
        assert turn.text == reply.content
        assert turn.sampled_ids

    def test_every_sampled_token_has_a_log_probability(self, subject: Subject):
        _, turn = call(subject, OPENING, Recorder())
        assert len(turn.logprobs) == len(turn.sampled_ids)
        assert all(math.isfinite(value) and value <= 0 for value in turn.logprobs)

    def test_a_second_turn_sends_the_first_one_s_tokens_again(self, subject: Subject):
        recorder = Recorder()
        reply, first = call(subject, OPENING, recorder)
        _, second = call(subject, [*OPENING, reply, INFORMATION], recorder, first.id)

        before = (*first.context_ids, *first.sampled_ids)
        assert second.parent_id == first.id
        assert second.context == (Message("user", str(INFORMATION.content)),)
        assert subject.sent[1][: len(before)] == before
        assert subject.sent[1][len(before) :] == second.context_ids
        assert recorder.ids(second.id) == [*subject.sent[1], *second.sampled_ids]

    def test_a_changed_conversation_starts_a_sequence_of_its_own(self, subject: Subject):
        recorder = Recorder()
        _, first = call(subject, OPENING, recorder)
        _, fork = call(subject, [*OPENING, AIMessage("something else"), INFORMATION], recorder, first.id)
        assert fork.parent_id is None
        assert fork.context_ids == subject.sent[1]
        assert [message.role for message in fork.context] == ["system", "user", "assistant", "user"]

    def test_version_sampling_and_role_are_recorded(self, subject: Subject):
        _, turn = call(
            subject,
            OPENING,
            Recorder(),
            role="judge",
            temperature=0.5,
            top_p=0.9,
            max_tokens=4,
            stop=["</x>"],
        )
        assert turn.role == "judge"
        assert turn.model_version == subject.model.model_version  # type: ignore[attr-defined]
        assert turn.sampling == Sampling(temperature=0.5, top_p=0.9, max_tokens=4, stop=("</x>",))

    def test_the_reply_counts_what_it_cost(self, subject: Subject):
        reply, turn = call(subject, OPENING, Recorder())
        assert reply.usage_metadata is not None
        assert reply.usage_metadata["input_tokens"] == len(turn.context_ids)
        assert reply.usage_metadata["output_tokens"] == len(turn.sampled_ids)

    def test_branches_of_one_turn_are_recorded_apart(self, subject: Subject):
        recorder = Recorder()
        reply, first = call(subject, OPENING, recorder)
        conversation = [*OPENING, reply, INFORMATION]
        branches = [call(subject, conversation, recorder, first.id)[1] for _ in range(2)]
        assert [turn.parent_id for turn in branches] == [first.id] * 2
        assert len({turn.id for turn in recorder.turns}) == 3

    async def test_concurrent_calls_do_not_mix(self, subject: Subject):
        recorder = Recorder()
        questions = [[HumanMessage(f"question {n}")] for n in range(5)]
        replies = await asyncio.gather(
            *(
                subject.model.ainvoke(question, recording=CallRecording(recorder, "policy", None))
                for question in questions
            )
        )
        for number, reply in enumerate(replies):
            [turn] = recorder.path(reply.response_metadata["turn_id"])
            assert turn.context == (Message("user", f"question {number}"),)
            assert turn.text == reply.content

    def test_a_call_without_a_recorder_is_an_ordinary_call(self, subject: Subject):
        reply = subject.model.invoke(OPENING)
        assert isinstance(reply.content, str)
        assert "turn_id" not in reply.response_metadata
