from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from masksearch_agent.errors import TraceError
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.records import Message, Trajectory, Turn
from masksearch_agent.traces.rows import make_rows, tokenise


def make_turn(
    id: str,
    parent: str | None,
    context: Sequence[int],
    sampled: Sequence[int],
    role: str = "policy",
    **fields: Any,
) -> Turn:
    """Return a turn whose k-th sampled id has the log-probability -id/100."""
    return Turn(
        id=id,
        parent_id=parent,
        role=role,
        context=(Message("user", f"before {id}"),),
        text=f"reply {id}",
        context_ids=tuple(context),
        sampled_ids=tuple(sampled),
        logprobs=tuple(-i / 100 for i in sampled),
        **fields,
    )


def make_trajectory(*turns: Turn) -> Trajectory:
    return Trajectory("run", "task", turns, answer="x", stop_reason="answered")


def text_turn(
    id: str, parent: str | None, context: Sequence[Message], text: str, role: str = "policy"
) -> Turn:
    return Turn(id=id, parent_id=parent, role=role, context=tuple(context), text=text)


def test_a_repaired_run_of_three_turns_is_one_row_with_a_loss_on_every_sampled_token():
    # turn          a                          b                    c
    #        prompt        malformed    repair        search   information    answer
    # ids    1 10 11 12 2  | 20 21 22 | 1 13 14 2 | 23 24 25 3 | 1 15 16 17 2 | 26 27 3
    # loss   0  0  0  0 0     1  1  1   0  0  0 0    1  1  1 1   0  0  0  0 0    1  1 1
    trajectory = make_trajectory(
        make_turn("a", None, [1, 10, 11, 12, 2], [20, 21, 22]),
        make_turn("b", "a", [1, 13, 14, 2], [23, 24, 25, 3]),
        make_turn("c", "b", [1, 15, 16, 17, 2], [26, 27, 3]),
    )

    [row] = make_rows(trajectory)

    assert row.input_ids == (
        *(1, 10, 11, 12, 2, 20, 21, 22),
        *(1, 13, 14, 2, 23, 24, 25, 3),
        *(1, 15, 16, 17, 2, 26, 27, 3),
    )
    assert [int(flag) for flag in row.trainable] == [
        *(0, 0, 0, 0, 0, 1, 1, 1),
        *(0, 0, 0, 0, 1, 1, 1, 1),
        *(0, 0, 0, 0, 0, 1, 1, 1),
    ]
    assert row.logprobs == (
        *(0.0, 0.0, 0.0, 0.0, 0.0, -0.20, -0.21, -0.22),
        *(0.0, 0.0, 0.0, 0.0, -0.23, -0.24, -0.25, -0.03),
        *(0.0, 0.0, 0.0, 0.0, 0.0, -0.26, -0.27, -0.03),
    )
    assert row.trajectory_id == "run"
    assert not row.is_truncated
    assert row.prompt_length == 5


def test_another_role_in_the_middle_is_context():
    # a (policy) [1 | 10 11]  ->  b (rewriter) [2 | 12 13]  ->  c (policy) [3 | 14]
    [row] = make_rows(
        make_trajectory(
            make_turn("a", None, [1], [10, 11]),
            make_turn("b", "a", [2], [12, 13], role="rewriter"),
            make_turn("c", "b", [3], [14]),
        )
    )
    assert row.input_ids == (1, 10, 11, 2, 12, 13, 3, 14)
    assert [int(flag) for flag in row.trainable] == [0, 1, 1, 0, 0, 0, 0, 1]
    assert row.logprobs == (0.0, -0.10, -0.11, 0.0, 0.0, 0.0, 0.0, -0.14)


def test_a_row_ends_with_its_last_trainable_token():
    # The judge reads the policy's conversation and says 13 14: nothing to learn from, so it is cut.
    [row] = make_rows(
        make_trajectory(
            make_turn("a", None, [1, 2], [10, 11]), make_turn("judge", "a", [3], [13, 14], role="judge")
        )
    )
    assert row.input_ids == (1, 2, 10, 11)


def test_a_conversation_of_other_roles_makes_no_row():
    trajectory = make_trajectory(
        make_turn("a", None, [1], [10]), make_turn("judge", None, [7, 8], [13], role="judge")
    )
    assert [row.input_ids for row in make_rows(trajectory)] == [(1, 10)]


def test_other_roles_need_no_tokens():
    trajectory = make_trajectory(
        make_turn("a", None, [1], [10]),
        text_turn("judge", None, [Message("user", "is it right?")], "yes", role="judge"),
        text_turn("critic", "a", [Message("user", "is it good?")], "no", role="critic"),
    )
    [row] = make_rows(trajectory)
    assert row.input_ids == (1, 10)
    assert row.logprobs == (0.0, -0.10)


def test_a_prefix_that_two_leaves_share_trains_once():
    #            .-> b [4 | 12 13]
    # a [1 2 | 10 11]
    #            '-> c [5 6 | 14]
    rows = make_rows(
        make_trajectory(
            make_turn("a", None, [1, 2], [10, 11]),
            make_turn("b", "a", [4], [12, 13]),
            make_turn("c", "a", [5, 6], [14]),
        )
    )
    assert [row.input_ids for row in rows] == [(1, 2, 10, 11, 4, 12, 13), (1, 2, 10, 11, 5, 6, 14)]
    assert [[int(flag) for flag in row.trainable] for row in rows] == [
        [0, 0, 1, 1, 0, 1, 1],
        [0, 0, 0, 0, 0, 0, 1],
    ]
    assert rows[1].logprobs == (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.14)


def test_every_sampled_policy_token_trains_exactly_once_in_any_tree():
    # A retry (two roots), a fan-out of three and a fork deeper down; policy ids are all different.
    turns = (
        make_turn("r", None, [1], [100]),
        make_turn("a", None, [1], [101, 102]),
        make_turn("b", "a", [2], [103]),
        make_turn("c", "a", [2], [104], role="rewriter"),
        make_turn("d", "a", [2], [105, 106]),
        make_turn("e", "c", [3], [107]),
        make_turn("f", "c", [3], [108]),
    )
    trained = [
        token
        for row in make_rows(make_trajectory(*turns))
        for token, flag in zip(row.input_ids, row.trainable, strict=True)
        if flag
    ]
    assert sorted(trained) == [100, 101, 102, 103, 105, 106, 107, 108]


def test_a_cut_last_step_marks_the_row_and_an_earlier_one_does_not():
    first = make_turn("a", None, [1], [10], finish_reason="length")
    [cut] = make_rows(make_trajectory(first))
    [repaired] = make_rows(make_trajectory(first, make_turn("b", "a", [2], [11])))
    assert cut.is_truncated
    assert not repaired.is_truncated


def test_a_policy_turn_without_ids_is_refused():
    trajectory = make_trajectory(
        make_turn("a", None, [1], [10]), text_turn("b", "a", [Message("user", "go on")], "reply")
    )
    with pytest.raises(TraceError, match=r"turn 'b' of trajectory 'run' has no token ids.*encoder"):
        make_rows(trajectory)


def test_a_missing_parent_is_refused():
    with pytest.raises(TraceError, match="'b' names a parent"):
        make_rows(make_trajectory(make_turn("b", "lost", [1], [10])))


OPENING = [Message("system", "Answer the question."), Message("user", "Who is the founder of Harrow Ltd?")]
SEARCH = "<think>I need the founder.</think><search>founder of Harrow Ltd</search>"
INFORMATION = Message("user", "<information>\n[1] Ada Fenwick: the founder of Harrow Ltd\n</information>")
ANSWER = "<think>Found.</think><answer>Ada Fenwick</answer>"


def test_ids_of_another_tokenizer_are_not_taken_for_the_encoders(tiny_tokenizer: Any):
    text = make_trajectory(text_turn("a", None, OPENING, SEARCH), text_turn("b", "a", [INFORMATION], ANSWER))
    encoder = ChatFormat(tiny_tokenizer)
    own = dataclasses.replace(text, turns=tokenise(text.turns, encoder))
    shifted = tuple(
        dataclasses.replace(turn, sampled_ids=tuple(token - 1 for token in turn.sampled_ids))
        for turn in own.turns
    )

    [row] = make_rows(dataclasses.replace(text, turns=shifted), encoder)
    [expected] = make_rows(text, encoder)
    assert row == expected
    assert row.logprobs is None

    [recorded] = make_rows(own, encoder)
    assert (recorded.input_ids, recorded.trainable) == (row.input_ids, row.trainable)
    assert recorded.logprobs is not None


def test_text_turns_give_the_tokens_of_the_whole_template(tiny_tokenizer: Any):
    """The oracle is the tokenizer's own rendering of the finished conversation."""
    trajectory = make_trajectory(
        text_turn("a", None, OPENING, SEARCH), text_turn("b", "a", [INFORMATION], ANSWER)
    )

    [row] = make_rows(trajectory, ChatFormat(tiny_tokenizer))

    conversation = [*OPENING, Message("assistant", SEARCH), INFORMATION, Message("assistant", ANSWER)]
    whole = tiny_tokenizer.apply_chat_template(
        [dataclasses.asdict(message) for message in conversation], return_dict=False
    )
    newline = tiny_tokenizer("\n")["input_ids"]
    assert [*row.input_ids, *newline] == whole
    assert row.logprobs is None
    trained = [i for i, flag in zip(row.input_ids, row.trainable, strict=True) if flag]
    assert tiny_tokenizer.decode(trained) == f"{SEARCH}<|im_end|>{ANSWER}<|im_end|>"


def test_tokenising_keeps_everything_but_the_ids(tiny_tokenizer: Any):
    turn = text_turn("a", None, OPENING, SEARCH)
    [encoded] = tokenise([turn], ChatFormat(tiny_tokenizer))
    assert encoded.sampled_ids[-1] == tiny_tokenizer.eos_token_id
    assert dataclasses.replace(encoded, context_ids=(), sampled_ids=(), logprobs=()) == turn
