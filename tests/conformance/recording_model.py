"""What every recording chat model must do, whatever samples its tokens.

Subclass `RecordingModelConformance` and provide the fixture `subject`: the model, and a way to see what it really sent.
The model needs nothing more than a system prompt, user messages and replies of a few tokens.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, ChatMessage, HumanMessage, SystemMessage

from masksearch_agent.errors import ModelError
from masksearch_agent.records import Message, Sampling, Trajectory, Turn
from masksearch_agent.traces.recorder import CallRecording, Recorder, RecordingModel
from masksearch_agent.traces.rows import make_rows

OPENING: list[AnyMessage] = [SystemMessage("Answer the question."), HumanMessage("Who founded Harrow Ltd?")]
INFORMATION = HumanMessage("<information>\n[1] Ada Fenwick: a founder\n</information>")


@dataclass(frozen=True)
class Subject:
    """A model under test."""

    model: BaseChatModel
    sent: list[tuple[int, ...]]
    """To this list, every call appends the ids that really went to whatever samples."""
    tolerance: float = 1e-4
    """How far the log-probability of one token may differ between two calls, in nats; larger for low precision."""


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
    """Inherit to test a model; each test makes a few short calls."""

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

    def test_a_stream_says_and_records_what_a_call_does(self, subject: Subject):
        recorder, sampling = Recorder(), Sampling(temperature=0.0, max_tokens=8)
        _, turn = call(subject, OPENING, Recorder(), sampling=sampling)
        recording = CallRecording(recorder, "policy", None, sampling)
        said = "".join(chunk.text for chunk in subject.model.stream(OPENING, recording=recording))
        [streamed] = recorder.turns
        assert said == streamed.text == turn.text
        assert (streamed.context_ids, streamed.sampled_ids) == (turn.context_ids, turn.sampled_ids)
        assert (streamed.finish_reason, streamed.sampling) == (turn.finish_reason, turn.sampling)
        assert streamed.logprobs == pytest.approx(turn.logprobs, abs=subject.tolerance)

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
        assert second.forked_from is None

    def test_two_turns_train_on_what_was_sampled_and_nothing_else(self, subject: Subject):
        recorder = Recorder()
        reply, first = call(subject, OPENING, recorder)
        _, second = call(subject, [*OPENING, reply, INFORMATION], recorder, first.id)
        [row] = make_rows(Trajectory("run", "task", recorder.turns, answer="", stop_reason="answered"))
        assert row.input_ids == (*subject.sent[1], *second.sampled_ids)
        assert row.trainable == tuple(
            is_sampled
            for turn in (first, second)
            for is_sampled in (*[False] * len(turn.context_ids), *[True] * len(turn.sampled_ids))
        )

    def test_a_changed_conversation_starts_a_sequence_of_its_own(self, subject: Subject):
        recorder = Recorder()
        _, first = call(subject, OPENING, recorder)
        _, fork = call(subject, [*OPENING, AIMessage("something else"), INFORMATION], recorder, first.id)
        assert (fork.parent_id, fork.forked_from) == (None, first.id)
        assert fork.context_ids == subject.sent[1]
        assert [message.role for message in fork.context] == ["system", "user", "assistant", "user"]

    def test_a_turn_without_tokens_is_read_as_text(self, subject: Subject):
        recorder = Recorder()
        told = Turn("told", None, "planner", (Message("user", "Plan."),), "Search for Harrow.")
        recorder.add(told)
        conversation = [HumanMessage("Plan."), AIMessage(told.text), INFORMATION]
        _, turn = call(subject, conversation, recorder, told.id)
        assert (turn.parent_id, turn.forked_from) == (None, "told")
        assert turn.context_ids == subject.sent[0]
        assert [message.role for message in turn.context] == ["user", "assistant", "user"]

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

    def test_the_settings_of_a_recording_come_before_the_model_s_own(self, subject: Subject):
        settings = Sampling(temperature=0.4, top_p=0.6, max_tokens=3, seed=1)
        _, turn = call(subject, OPENING, Recorder(), sampling=settings)
        assert turn.sampling == settings

    def test_a_stop_string_ends_the_reply_and_is_kept(self, subject: Subject):
        _, whole = call(subject, OPENING, Recorder(), temperature=0.0)
        stop = whole.text[1:3]
        reply, cut = call(subject, OPENING, Recorder(), temperature=0.0, stop=[stop])
        assert len(stop) == 2, "the model under test has to say more than two characters"
        assert stop in cut.text
        assert reply.content == cut.text
        assert cut.sampled_ids == whole.sampled_ids[: len(cut.sampled_ids)]
        assert len(cut.sampled_ids) < len(whole.sampled_ids)
        assert cut.finish_reason == reply.response_metadata["finish_reason"] == "stop"

    def test_a_token_limit_cuts_the_reply_and_says_so(self, subject: Subject):
        reply, turn = call(subject, OPENING, Recorder(), max_tokens=2, seed=5)
        assert len(turn.sampled_ids) == len(turn.logprobs) == 2
        assert turn.finish_reason == reply.response_metadata["finish_reason"] == "length"

    def test_a_seed_repeats_a_sampled_reply(self, subject: Subject):
        turns = [call(subject, OPENING, Recorder(), temperature=1.0, seed=5)[1] for _ in range(2)]
        assert turns[0].sampled_ids == turns[1].sampled_ids
        assert turns[0].sampling == Sampling(
            temperature=1.0,
            max_tokens=turns[0].sampling.max_tokens,
            seed=5,  # type: ignore[union-attr]
        )

    def test_log_probabilities_do_not_depend_on_the_sampling_settings(self, subject: Subject):
        """Those of the scaled distribution would be near zero at a low temperature or in a small nucleus."""
        _, plain = call(subject, OPENING, Recorder(), temperature=0.0)
        for settings in ({"temperature": 1e-3}, {"temperature": 1.0, "top_p": 1e-3}):
            _, sharp = call(subject, OPENING, Recorder(), seed=1, **settings)
            assert sharp.sampled_ids == plain.sampled_ids, "both leave the likeliest token only"
            assert sharp.logprobs == pytest.approx(plain.logprobs, abs=subject.tolerance)

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

    async def test_both_ways_of_calling_record_the_same(self, subject: Subject):
        recorder = Recorder()
        recording = CallRecording(recorder, "policy", None)
        subject.model.invoke(OPENING, recording=recording, temperature=0.0)
        await subject.model.ainvoke(OPENING, recording=recording, temperature=0.0)
        first, second = recorder.turns
        assert (first.context_ids, first.sampled_ids) == (second.context_ids, second.sampled_ids)
        assert subject.sent[0] == subject.sent[1]

    def test_a_streamed_call_is_one_turn(self, subject: Subject):
        recorder = Recorder()
        chunks = list(subject.model.stream(OPENING, recording=CallRecording(recorder, "policy", None)))
        [turn] = recorder.turns
        assert "".join(str(chunk.text) for chunk in chunks) == turn.text

    async def test_a_cancelled_call_records_nothing_and_the_next_one_is_served(self, subject: Subject):
        recorder = Recorder()
        recording = CallRecording(recorder, "policy", None)
        cancelled = asyncio.create_task(subject.model.ainvoke(OPENING, recording=recording))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        reply = await subject.model.ainvoke(OPENING, recording=recording)
        assert [turn.id for turn in recorder.turns] == [reply.response_metadata["turn_id"]]

    def test_a_refused_call_records_nothing(self, subject: Subject):
        recorder = Recorder()
        with pytest.raises(ModelError, match="cannot send a message of type 'chat'"):
            call(subject, [ChatMessage("hello", role="pirate")], recorder)
        assert recorder.turns == ()

    def test_a_cached_reply_is_never_taken_for_a_sampled_one(self, subject: Subject):
        recorder = Recorder()
        set_llm_cache(InMemoryCache())
        try:
            for _ in range(2):
                call(subject, OPENING, recorder)
        finally:
            set_llm_cache(None)
        assert len(recorder.turns) == len(subject.sent) == 2

    def test_a_call_without_a_recorder_is_an_ordinary_call(self, subject: Subject):
        reply = subject.model.invoke(OPENING)
        assert isinstance(reply.content, str)
        assert "turn_id" not in reply.response_metadata
