from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masksearch_agent.models.answer_spans import AnswerSpans

PASSAGE = "Zoë Fenwick (born 1931) sold 3.5% of Harrow Ltd in\nPort Aldin."
QUESTION = "Is it Harrow Ltd or Velling Works?"
SPANS = AnswerSpans([PASSAGE, QUESTION])


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "Zoë Fenwick",
            "1931",
            "(born 1931)",
            "3.5%",
            "3.5",
            "Harrow Ltd",
            "Port Aldin",
            "Port Aldin.",
            "in Port",
        ),
        *("Velling Works", "yes", "no", "Yes", " No "),
    ],
)
def test_whole_spans_and_verdicts_are_allowed(answer: str) -> None:
    assert SPANS.holds(answer)
    text = f" {answer.strip()}</answer>"
    assert all(SPANS.accepts(text[:end]) for end in range(len(text) + 1))
    assert SPANS.accepts(f"{text}\n<|end|>")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " ",
        "Fen",
        "enwick",
        "Harrow Lt",
        "zoë",
        "Zoë 1931",
        "maybe",
        "Ltd Is",
        "Aldin. Is",
        "yes yes",
        "yes\nno",
    ],
)
def test_anything_else_is_not(answer: str) -> None:
    assert not SPANS.holds(answer)
    assert not SPANS.accepts(f"{answer}</answer>")


def test_a_text_that_leaves_every_span_is_refused_at_once() -> None:
    assert SPANS.accepts(" Zoë Fen")
    assert not SPANS.accepts(" Zoë Fex")
    assert not SPANS.accepts("  Zoë")
    assert not SPANS.accepts(" Zoë</search>")


def test_a_character_of_a_passage_that_looks_like_a_tag_s_beginning_is_text() -> None:
    spans = AnswerSpans(["where a < b holds"])
    assert spans.holds("a < b")
    assert all(spans.accepts(" a < b</answer>"[:end]) for end in range(16))


def test_several_masks_are_several_lines_each_of_them_a_span() -> None:
    spans = AnswerSpans([PASSAGE], lines=2, is_numbered=True)
    for answer in ("1. Zoë\n2. Port Aldin", "1. 1931"):
        assert spans.holds(answer)
        assert all(spans.accepts(f"{answer}</answer>"[:end]) for end in range(len(answer) + 10))
    for answer in ("Zoë", "2. Zoë", "1. Zoë\nAldin", "1. Zoë\n2. x", "1. Zoë\n2. Aldin\n3. in", "1. "):
        assert not spans.holds(answer)
    assert AnswerSpans([PASSAGE], lines=2).holds("Zoë\nin")


def test_what_may_follow_is_what_stands_there() -> None:
    assert set(SPANS.continuations("Harrow L")) == {"td in Port Aldin", "td or Velling Wo"}
    assert set(SPANS.continuations("1931</ans")) == {"wer>"}
    assert set(SPANS.continuations("1931")) == {"</answer>", ") sold 3.5% of H"}


@given(
    st.lists(st.text(alphabet="ab <é\n1.", max_size=12), max_size=3), st.text(alphabet="ab <é1.", max_size=6)
)
def test_what_holds_is_a_span_and_every_beginning_of_it_was_accepted(texts: list[str], answer: str) -> None:
    spans = AnswerSpans(texts)
    if spans.holds(answer):
        kept = answer.strip()
        assert any(kept in " ".join(text.split()) for text in texts)
        assert all(spans.accepts(kept[:end]) for end in range(len(kept) + 1))
        assert spans.accepts(f"{kept}</answer>")
