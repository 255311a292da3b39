from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masksearch_agent.calls.replies import Line, Reply, parse_tagged


class Sample(Reply):
    thought: Line
    needs: tuple[Line, ...] = ()
    verdict: Literal["accept", "wrong"] = "accept"


def test_fields_are_read_from_their_tags() -> None:
    needs = "<needs>\n- the mayor\n\n2. the city of 1901\n</needs>"
    text = f"<thought> It is  open. </thought>\n{needs}<verdict>wrong</verdict>"
    assert parse_tagged(text, Sample) == Sample(
        thought="It is  open.", needs=("the mayor", "the city of 1901"), verdict="wrong"
    )


def test_a_number_that_is_no_list_number_stays() -> None:
    assert parse_tagged("<thought>t</thought><needs>1901. Year</needs>", Sample) == Sample(
        thought="t", needs=("1901. Year",)
    )


def test_what_a_reasoning_model_thinks_first_is_no_part_of_the_reply() -> None:
    assert parse_tagged("<think>so <needs> hm</think>\n<thought>t</thought>", Sample) == Sample(thought="t")
    # The chat template wrote the opening tag.
    assert parse_tagged("so <needs> hm</think>\n<thought>t</thought>", Sample) == Sample(thought="t")


def test_a_field_may_quote_the_end_of_a_thought() -> None:
    quoted = "It wrote </think> twice: </think>."
    assert parse_tagged(f"<thought>{quoted}</thought>", Sample) == Sample(thought=quoted)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "<thought> is missing"),
        ("I would rather talk.", "there is no tag"),
        ("Sure! <thought>t</thought>", "text outside the tags, before <thought>"),
        ("<thought>t</thought> Hope it helps", "text outside the tags, after </thought>"),
        ("<thought>t", "<thought> is not closed"),
        ("</thought>", "</thought> closes a tag that was not opened"),
        ("<thought>a<needs>b</needs></thought>", "<needs> stands inside <thought>"),
        ("<thought>a</thought><thought>b</thought>", "there are two <thought> blocks"),
        ("<thought> </thought>", "<thought>: String should have at least 1 character"),
        ("<thought>t</thought><verdict>maybe</verdict>", "<verdict>: Input should be 'accept' or 'wrong'"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(text: str, problem: str) -> None:
    said = parse_tagged(text, Sample)
    assert isinstance(said, str)
    assert problem in said


@given(
    st.lists(
        st.sampled_from(
            ["<thought>", "</thought>", "<needs>", "</needs>", "<verdict>", "accept", "\n", "x", "<think>"]
        )
        | st.text(max_size=5)
    ).map("".join)
)
def test_every_string_is_a_reply_or_a_problem(text: str) -> None:
    assert isinstance(parse_tagged(text, Sample), Sample | str)


def test_code_is_text() -> None:
    read = parse_tagged("<thought>__import__('os').abort()</thought><needs>['a', 'b']</needs>", Sample)
    assert read == Sample(thought="__import__('os').abort()", needs=("['a', 'b']",))
