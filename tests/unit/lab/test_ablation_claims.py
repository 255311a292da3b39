from __future__ import annotations

from typing import Any

import pytest
from fakes.evaluation_results import result

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.lab.ablation_claims import ArmRun, Claim, answer_length, assess, decide

SETTINGS = EvaluationSettings(bootstrap_samples=400)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.3, "reproduced"),
        (0.001, 0.01, "reproduced"),  # small, and sure
        (0.0, 0.3, "undecided at this scale"),
        (-0.1, 0.02, "undecided at this scale"),
        (-0.1, 0.019, "not reproduced"),
        (0.0, 0.0, "not reproduced"),
        (-0.3, -0.1, "not reproduced"),
    ],
)
def test_a_claim_is_decided_by_its_interval(low: float, high: float, verdict: str) -> None:
    assert decide(Interval((low + high) / 2, low, high), smallest_gain=0.02) == verdict


def arm(name: str, seed: int, recalls: list[float], **changes: Any) -> ArmRun:
    results = [result(f"{seed}-{number}", recall, **changes) for number, recall in enumerate(recalls)]
    return ArmRun(name, seed, {"a": results[::-1] if name == "after" else results}, None)


def claim(*pairs: tuple[str, str], measure: Any = "recall") -> Claim:
    return Claim("It helps", "a paper", "sampling", pairs, ("a",), measure)


def test_differences_are_paired_by_question_and_seeds_count_alike() -> None:
    runs = [
        arm("before", 0, [0.0, 1.0, 0.5]),
        arm("after", 0, [0.5, 1.0, 1.0]),  # +1/3, its questions in another order
        arm("before", 1, [0.0] * 9),
        arm("after", 1, [1.0] * 9),  # +1
    ]
    found = assess(claim(("after", "before")), runs, 0.02, SETTINGS)
    assert found.gain.mean == pytest.approx(2 / 3)
    assert (found.verdict, found.seeds, found.questions) == ("reproduced", 2, 3)


def test_an_effect_of_one_seed_alone_is_not_taken_for_one_of_all() -> None:
    even = [number / 40 for number in range(40)]
    runs = [
        *(arm("before", seed, [0.0] * 40) for seed in range(3)),
        *(arm("after", seed, even if seed == 0 else [0.0] * 40) for seed in range(3)),
    ]
    assert assess(claim(("after", "before")), runs, 0.02, SETTINGS).verdict == "undecided at this scale"
    alone = [run for run in runs if run.seed == 0]
    assert assess(claim(("after", "before")), alone, 0.02, SETTINGS).verdict == "reproduced"


def test_several_pairs_are_decided_together_and_shown_one_by_one() -> None:
    runs = [arm("a", 0, [1.0, 1.0]), arm("b", 0, [0.0, 0.5]), arm("c", 0, [1.0, 0.0])]
    found = assess(claim(("a", "b"), ("a", "c")), runs, 0.02, SETTINGS)
    assert [pair.gain.mean for pair in found.pairs] == [0.75, 0.5]
    assert found.gain.mean == 0.625


def test_a_claim_can_be_about_how_long_answers_are() -> None:
    assert answer_length(result("q", 1.0, gold=("Ann Bo", "1923"), answer="Ann Bo Cy Do\n1923 1924")) == 2.0
    assert answer_length(result("q", 0.0, answer="")) == 0.0
    runs = [
        arm("before", 0, [1.0], gold=("Ann",), answer="Ann"),
        arm("after", 0, [1.0], gold=("Ann",), answer="Ann Bo Cy"),
    ]
    assert assess(claim(("after", "before"), measure="length"), runs, 0.02, SETTINGS).gain.mean == 2.0


def test_arms_that_were_asked_other_questions_are_no_pair() -> None:
    runs = [arm("before", 0, [1.0, 0.0]), arm("after", 0, [1.0])]
    with pytest.raises(EvaluationError, match="asked different questions of 'a' with seed 0"):
        assess(claim(("after", "before")), runs, 0.02, SETTINGS)
    with pytest.raises(EvaluationError, match="has no arm 'other'"):
        assess(claim(("after", "other")), runs, 0.02, SETTINGS)


@pytest.mark.parametrize("recall", [0.0, 1.0])
def test_arms_that_all_fail_or_are_all_perfect_decide_nothing(recall: float) -> None:
    runs = [arm("before", 0, [recall] * 5), arm("after", 0, [recall] * 5)]
    assert assess(claim(("after", "before")), runs, 0.02, SETTINGS).verdict == "undecided at this scale"
    runs = [arm("before", 0, [1.0 - recall, recall]), arm("after", 0, [1.0 - recall, recall])]
    assert assess(claim(("after", "before")), runs, 0.02, SETTINGS).verdict == "not reproduced"
