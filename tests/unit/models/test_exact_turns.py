"""What the local model records, token by token, in ids that are written by hand (`fakes.tiny_models.LISTED_PIECES`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fakes.tiny_models import LISTED_PIECES, forced_continuation, make_listed_tokenizer, make_test_model
from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage

from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.records import TrainingRow, Trajectory, Turn
from masksearch_agent.traces.recorder import CallRecording, Recorder
from masksearch_agent.traces.rows import make_rows

DROPS_REASONING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{{ m['content'].split('</think>')[-1] }}"
    "{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# <|im_start|> system \n Answer <|im_end|> \n   <|im_start|> user \n Who <|im_end|> \n   <|im_start|> assistant \n
OPENING = (1, 4, 3, 14, 2, 3, 1, 5, 3, 15, 2, 3, 1, 6, 3)
# \n   <|im_start|> user \n Harrow <|im_end|> \n   <|im_start|> assistant \n
INFORMATION = (3, 1, 5, 3, 18, 2, 3, 1, 6, 3)
END_OF_TURN = 2


class Conversation:
    """A model in conversation: each step samples the ids that it is told to."""

    def __init__(self, model: LocalChatModel) -> None:
        self.model = model
        self.recorder = Recorder()
        self.messages: list[AnyMessage] = [SystemMessage("Answer"), HumanMessage("Who")]
        self.parent_id: str | None = None

    def sample(self, *ids: int, **keywords: Any) -> Turn:
        """Make the model say the ids (all different), and then nothing it is kept from saying."""
        recording = CallRecording(self.recorder, "policy", self.parent_id)
        with forced_continuation(self.model.model, [3, *ids]):
            reply = self.model.invoke(self.messages, recording=recording, **keywords)
        self.parent_id = reply.response_metadata["turn_id"]
        self.messages += [reply, HumanMessage("Harrow")]
        return self.recorder.turns[-1]

    @property
    def trajectory(self) -> Trajectory:
        return Trajectory("run", "task", self.recorder.turns, answer="", stop_reason="answered")

    @property
    def rows(self) -> list[TrainingRow]:
        return make_rows(self.trajectory)


def make_model(template: str | None = None) -> LocalChatModel:
    tokenizer = make_listed_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    return LocalChatModel(
        model=make_test_model(tokenizer),
        tokenizer=tokenizer,
        max_tokens=8,
        allow_rewriting_template=template is not None,
    )


@pytest.fixture
def conversation() -> Iterator[Conversation]:
    model = make_model()
    yield Conversation(model)
    model.close()


def flags(row: TrainingRow) -> list[int]:
    return [int(flag) for flag in row.trainable]


def mask(*parts: tuple[int, Sequence[int]]) -> list[int]:
    """Return a flag for every id of each part."""
    return [flag for flag, ids in parts for _ in ids]


def test_the_listed_ids_are_what_the_tokenizer_reads_and_writes():
    tokenizer = make_listed_tokenizer()
    assert tokenizer("".join(LISTED_PIECES))["input_ids"] == list(range(20))
    assert tokenizer.decode(range(20)) == "".join(LISTED_PIECES)


def test_a_stop_string_ends_a_turn_and_the_end_of_turn_behind_it_is_context(conversation: Conversation):
    # <search> Ada </search>
    conversation.sample(9, 16, 10, stop=["</search>"])
    conversation.sample(11, 17, 12, stop=["</answer>"])
    [row] = conversation.rows
    assert row.input_ids == (*OPENING, 9, 16, 10, END_OF_TURN, *INFORMATION, 11, 17, 12)
    assert flags(row) == mask((0, OPENING), (1, [9, 16, 10]), (0, [2]), (0, INFORMATION), (1, [11, 17, 12]))


def test_a_sampled_end_of_turn_trains_and_is_not_sent_twice(conversation: Conversation):
    conversation.sample(16, 19, END_OF_TURN)
    conversation.sample(17, END_OF_TURN)
    [row] = conversation.rows
    assert row.input_ids == (*OPENING, 16, 19, END_OF_TURN, *INFORMATION, 17, END_OF_TURN)
    assert flags(row) == mask((0, OPENING), (1, [16, 19, 2]), (0, INFORMATION), (1, [17, 2]))


def test_a_stop_string_within_a_token_keeps_the_whole_token(conversation: Conversation):
    # "</search>.\n" is one token: what it says behind the stop string was sampled, so it is kept, sent and trained.
    first = conversation.sample(9, 16, 13, stop=["</search>"])
    conversation.sample(17, END_OF_TURN)
    assert (first.text, first.finish_reason) == ("<search>Ada</search>.\n", "stop")
    [row] = conversation.rows
    assert row.input_ids == (*OPENING, 9, 16, 13, END_OF_TURN, *INFORMATION, 17, END_OF_TURN)
    assert flags(row) == mask((0, OPENING), (1, [9, 16, 13]), (0, [2]), (0, INFORMATION), (1, [17, 2]))


def test_a_turn_cut_by_its_token_limit_is_closed_as_context(conversation: Conversation):
    cut = conversation.sample(7, 16, 19, max_tokens=2)
    assert cut.finish_reason == "length"
    assert conversation.rows[0].is_truncated
    conversation.sample(17, END_OF_TURN)
    [row] = conversation.rows
    assert row.input_ids == (*OPENING, 7, 16, END_OF_TURN, *INFORMATION, 17, END_OF_TURN)
    assert flags(row) == mask((0, OPENING), (1, [7, 16]), (0, [2]), (0, INFORMATION), (1, [17, 2]))
    assert not row.is_truncated


def test_a_token_limit_that_falls_on_the_end_of_turn_is_no_cut(conversation: Conversation):
    turn = conversation.sample(16, END_OF_TURN, max_tokens=2)
    assert (turn.sampled_ids, turn.finish_reason) == ((16, 2), "stop")


def test_a_template_that_drops_reasoning_forks_a_row(caplog: pytest.LogCaptureFixture):
    conversation = Conversation(make_model(DROPS_REASONING))
    with caplog.at_level(logging.INFO):
        first = conversation.sample(7, 16, 8, 19, END_OF_TURN)  # <think>Ada</think>found
        second = conversation.sample(17, END_OF_TURN)  # Bram: without a thought, nothing will be dropped
        third = conversation.sample(18, END_OF_TURN)
    conversation.model.close()

    # The second call reads the first reply as `found`, the third one reads what the second one read and wrote.
    reread = (*OPENING, 19, END_OF_TURN, *INFORMATION)
    assert first.context_ids == OPENING
    assert (second.parent_id, second.forked_from, second.context_ids) == (None, first.id, reread)
    assert (third.parent_id, third.forked_from, third.context_ids) == (second.id, None, INFORMATION)
    dropped, kept = conversation.rows
    assert dropped.input_ids == (*OPENING, 7, 16, 8, 19, END_OF_TURN)
    assert flags(dropped) == mask((0, OPENING), (1, [7, 16, 8, 19, 2]))
    assert kept.input_ids == (*reread, 17, END_OF_TURN, *INFORMATION, 18, END_OF_TURN)
    assert flags(kept) == mask((0, reread), (1, [17, 2]), (0, INFORMATION), (1, [18, 2]))
    assert conversation.trajectory.fork_count == 1
    assert f"turn {second.id} (policy) cannot continue turn {first.id}" in caplog.text


def test_a_rewritten_reply_forks_a_row(conversation: Conversation):
    first = conversation.sample(16, 19, END_OF_TURN)  # Adafound
    conversation.messages[2] = conversation.messages[2].model_copy(update={"content": "found"})
    second = conversation.sample(17, END_OF_TURN)
    assert (second.parent_id, second.forked_from) == (None, first.id)
    rows = conversation.rows
    assert [row.input_ids for row in rows] == [
        (*OPENING, 16, 19, END_OF_TURN),
        (*OPENING, 19, END_OF_TURN, *INFORMATION, 17, END_OF_TURN),
    ]
    assert flags(rows[1]) == mask((0, OPENING), (0, [19, 2]), (0, INFORMATION), (1, [17, 2]))
