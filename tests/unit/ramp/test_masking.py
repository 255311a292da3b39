from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.ramp.masking import POLICIES, choose_spans, length_weighted, uniform
from masksearch_agent.ramp.spans import Span
from masksearch_agent.records import Passage

SPANS = tuple(
    Span(10 * index, 10 * index + 5, text, "ENTITY")
    for index, text in enumerate(["Ann", "New York City", "1923", "Orly Bay", "Cy"])
)


def passage(index: int) -> Passage:
    return Passage(f"p{index}", "t", "x" * 60)


def test_length_weights_are_words_and_numbers_weigh_most() -> None:
    assert length_weighted(passage(0), SPANS) == [1.0, 3.0, 3.0, 2.0, 1.0]
    identifier = Span(90, 95, "initdb", "IDENTIFIER")
    assert length_weighted(passage(0), (*SPANS, identifier))[-1] == 3.0
    assert uniform(passage(0), SPANS) == [1.0] * 5


def test_no_span_is_drawn_twice_and_all_are_in_text_order() -> None:
    settings = RampSettings(mask_count_weights=(0, 0, 0, 1))
    for index in range(50):
        chosen = choose_spans(passage(index), SPANS, settings)
        assert len(set(chosen)) == 4
        assert list(chosen) == sorted(chosen, key=lambda span: span.start)


def test_the_draw_follows_the_weights() -> None:
    settings = RampSettings(max_masks=1, mask_count_weights=(1,))
    drawn = Counter(choose_spans(passage(index), SPANS, settings)[0].text for index in range(5000))
    # Weights 1, 3, 3, 2, 1 of 10; four standard errors are 0.026.
    for text, share in {"Ann": 0.1, "New York City": 0.3, "1923": 0.3, "Orly Bay": 0.2, "Cy": 0.1}.items():
        assert drawn[text] / 5000 == pytest.approx(share, abs=0.026)


def test_the_mask_count_follows_its_weights() -> None:
    settings = RampSettings(mask_count_weights=(1, 0, 3, 0), policy="uniform")
    counts = Counter(len(choose_spans(passage(index), SPANS, settings)) for index in range(2000))
    assert counts.keys() == {1, 3}
    assert counts[3] / 2000 == pytest.approx(0.75, abs=0.04)


def test_few_spans_limit_the_count_to_what_is_possible() -> None:
    settings = RampSettings(mask_count_weights=(1, 1, 1, 1))
    assert {len(choose_spans(passage(index), SPANS[:2], settings)) for index in range(50)} == {1, 2}
    assert choose_spans(passage(0), SPANS[:2], RampSettings(mask_count_weights=(0, 0, 1, 1))) == ()
    assert choose_spans(passage(0), (), settings) == ()


def test_the_draw_depends_on_seed_and_passage_only() -> None:
    settings = RampSettings(seed=3)
    draws = [choose_spans(passage(index), SPANS, settings) for index in range(20)]
    assert [choose_spans(passage(index), SPANS, settings) for index in reversed(range(20))] == draws[::-1]
    assert len(set(draws)) > 5
    assert [choose_spans(passage(index), SPANS, RampSettings(seed=4)) for index in range(20)] != draws


def test_another_policy_can_forbid_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    def dates_only(passage: Passage, spans: Sequence[Span]) -> Sequence[float]:
        return [float(span.text.isdigit()) for span in spans]

    monkeypatch.setitem(POLICIES, "uniform", dates_only)
    assert choose_spans(passage(0), SPANS, RampSettings(policy="uniform")) == (SPANS[2],)
