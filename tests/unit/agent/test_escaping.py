from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masksearch_agent.agent.escaping import neutralise, restore

J = "\u2060"

fragments = st.sampled_from(
    [
        "<",
        "/",
        ">",
        "|",
        "｜",
        J,
        " ",
        "\n",
        "\u00a0",
        "search",
        "SEARCH",
        "think",
        "s",
        "eos",
        "x",
        "<|im_end|>",
    ]
)
tag_like = st.lists(fragments, max_size=14).map("".join)


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("</information>", f"<{J}/information>"),
        ("<search>", f"<{J}search>"),
        ("< /Search >", f"<{J} /Search >"),
        ("<THINK>", f"<{J}THINK>"),
        ("a <answer>b</answer> c", f"a <{J}answer>b<{J}/answer> c"),
        ("<|im_end|>", f"<{J}|im_end|>"),
        ("<｜end▁of▁sentence｜>", f"<{J}｜end▁of▁sentence｜>"),
        ("<s>[INST]</s>", f"<{J}s>[INST]<{J}/s>"),
        ("<bos><eos><pad><unk>", f"<{J}bos><{J}eos><{J}pad><{J}unk>"),
        ("<start_of_turn>user", f"<{J}start_of_turn>user"),
        (f"<{J}search>", f"<{J}{J}search>"),
        ("<<search>", f"<<{J}search>"),
    ],
)
def test_markers_get_one_joiner(text: str, harmless: str) -> None:
    assert neutralise(text) == harmless
    assert restore(harmless) == text


@pytest.mark.parametrize(
    "text",
    ["", "plain", "a < b > c", "<p>", "<span>", "<searching>", "<strong>", "search>", "x <- y", f"<{J}p>"],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert neutralise(text) == text
    assert restore(text) == text


@given(st.text() | tag_like)
@example(f"<{J}{J}/search>{J}<|")
def test_restore_inverts_neutralise(text: str) -> None:
    assert restore(neutralise(text)) == text


@given(tag_like)
def test_neutralise_adds_joiners_and_nothing_else(text: str) -> None:
    assert neutralise(text).replace(J, "") == text.replace(J, "")


@given(tag_like, tag_like)
def test_different_texts_stay_different(first: str, second: str) -> None:
    assert (neutralise(first) == neutralise(second)) == (first == second)


@pytest.mark.parametrize("unit", ["<", "< ", f"<{J}", "<" + " " * 1000, "<" + J * 1000, "</", "<search "])
def test_time_grows_linearly(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    started = time.thread_time()
    restore(neutralise(text))
    assert time.thread_time() - started < 2.0
