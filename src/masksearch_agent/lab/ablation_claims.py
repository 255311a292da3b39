"""What the papers claim, each claim as a comparison, and what a run says of it.

A claim is decided by the paired difference between its arms, question by question, over all seeds: the interval is a
bootstrap over seeds and questions (`comparison.gain_over_runs`), and `decide` is the only place that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.comparison import gain_over_runs
from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.evaluation.results import QuestionResult
from masksearch_agent.lab.ablation_plan import LONGER_TRAINING, METHODS, RAMP, reward_names, same_tokens_name
from masksearch_agent.lab.recipe import Experiment, LabRecipe
from masksearch_agent.text.matching import tokenize_answer

__all__ = (
    *("MEASURES", "ArmRun", "AssessedClaim", "Claim", "Measure", "Verdict", "assess", "claims_of", "decide"),
    "domains_of",
)

Verdict = Literal["reproduced", "not reproduced", "undecided at this scale"]
Measure = Literal["recall", "em", "length"]

_STRICTER = "MaskSearch, stricter"
"""Source of claims that this project sharpens."""

_Pair = tuple[str, str]
"""The arm that is claimed to score more, and the other one."""


@dataclass(frozen=True, slots=True)
class ArmRun:
    """What one arm of a comparison gave with one seed."""

    arm: str
    seed: int
    results: Mapping[str, Sequence[QuestionResult]]
    """By test set."""
    tokens: int | None
    """Tokens that its training read; None where that is not told."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that a paper, or this project, says, and the arms that put it to the test."""

    text: str
    source: str
    experiment: Experiment
    pairs: tuple[_Pair, ...]
    """The claim is about their mean."""
    sets: tuple[str, ...]
    """Test sets it is about."""
    measure: Measure = "recall"


@dataclass(frozen=True, slots=True)
class AssessedPair:
    """One pair of a claim's arms."""

    after: str
    before: str
    gain: Interval


@dataclass(frozen=True, slots=True)
class AssessedClaim:
    """What a run says of a claim."""

    claim: str
    source: str
    experiment: Experiment
    measure: Measure
    sets: tuple[str, ...]
    gain: Interval
    """Of the paired difference, over all seeds and pairs."""
    verdict: Verdict
    pairs: tuple[AssessedPair, ...]
    seeds: int
    questions: int
    """Of one seed."""


def answer_length(result: QuestionResult) -> float:
    """Return how many times as long as the expected answer an answer is, in tokens."""
    expected = sum(len(tokenize_answer(gold)) for gold in result.gold)
    return len(tokenize_answer(result.answer)) / max(1, expected)


MEASURES: Mapping[Measure, Callable[[QuestionResult], float]] = {
    "recall": lambda result: result.recall,
    "em": lambda result: result.em,
    "length": answer_length,
}
"""What a question scores."""


def decide(gain: Interval, smallest_gain: float, has_room: bool = True) -> Verdict:
    """Return what the interval of a paired difference says of the claim that it is positive.

    Args:
        gain: The difference, in the direction of the claim.
        smallest_gain: A gain that matters. An interval that lies wholly below it speaks against the claim: what there
            is to gain, if anything, is too little. One that reaches from no gain at all to more than that says nothing.
        has_room: False where no arm scores anything, or all are perfect: then no difference says nothing.
    """
    if gain.low > 0:
        return "reproduced"
    return "not reproduced" if has_room and gain.high < smallest_gain else "undecided at this scale"


def domains_of(recipe: LabRecipe) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the test sets in domain, of kinds of questions that are trained on, and those out of it."""
    trained = {wanted.name for wanted in recipe.world.train_questions}
    names = [wanted.name for wanted in recipe.world.test_questions]
    return tuple(n for n in names if n in trained), tuple(n for n in names if n not in trained)


def claims_of(recipe: LabRecipe, rounds: int) -> list[Claim]:
    """Return the claims that the recipe's comparisons put to the test.

    Args:
        recipe: Names the comparisons, the test sets and the rewards.
        rounds: Rounds of self-evolution that every seed has.
    """
    in_domain, out_of_domain = domains_of(recipe)
    where = (("in domain", in_domain), ("out of domain", out_of_domain))
    pre_trained = tuple((f"{before}+{after}", after) for after in METHODS for before in METHODS)
    same_tokens = tuple((arm, same_tokens_name(arm)) for arm, _ in pre_trained)
    helps = "RAMP pre-training helps"
    rl_first = "Pre-training by RL beats pre-training by SFT where RL follows"
    every_set = in_domain + out_of_domain
    claims = [
        *(Claim(f"{helps} {name}", "MaskSearch", "table", pre_trained, sets) for name, sets in where),
        Claim(rl_first, "MaskSearch", "table", (("RL+RL", "SFT+RL"),), every_set),
        *(
            Claim(f"{helps} {name} at the same total tokens", _STRICTER, "tokens", same_tokens, sets)
            for name, sets in where
        ),
        *_ramp_claims(reward_names(recipe.rewards)[-1]),
    ]
    if rounds > 1:
        claims += _evolution_claims(rounds, recipe.evolution.start_from == "student")
    return [claim for claim in claims if claim.experiment in recipe.ablation.only]


def assess(
    claim: Claim, runs: Sequence[ArmRun], smallest_gain: float, settings: EvaluationSettings
) -> AssessedClaim:
    """Return a claim with its paired difference over all seeds, that of each of its pairs, and the verdict.

    Args:
        runs: Of its comparison: each arm with each seed.
        smallest_gain: See `decide`.

    Raises:
        EvaluationError: An arm is missing, or two arms were asked different questions.
    """

    def interval(pairs: Sequence[_Pair]) -> Interval:
        seeds = dict.fromkeys(run.seed for run in runs)
        compared = [
            [
                (_results(claim, before, runs, seed), _results(claim, after, runs, seed))
                for after, before in pairs
            ]
            for seed in seeds
        ]
        return gain_over_runs(compared, MEASURES[claim.measure], settings)

    gain = interval(claim.pairs)
    first = next(run for run in runs if run.arm == claim.pairs[0][0])
    return AssessedClaim(
        claim=claim.text,
        source=claim.source,
        experiment=claim.experiment,
        measure=claim.measure,
        sets=claim.sets,
        gain=gain,
        verdict=decide(gain, smallest_gain, _has_room(claim, runs, smallest_gain)),
        pairs=tuple(AssessedPair(*pair, interval([pair])) for pair in claim.pairs),
        seeds=len({run.seed for run in runs}),
        questions=sum(len(first.results[name]) for name in claim.sets),
    )


def _on_ramp(
    text: str, source: str, experiment: Experiment, *pairs: _Pair, measure: Measure = "recall"
) -> Claim:
    return Claim(text, source, experiment, pairs, (RAMP,), measure)


def _ramp_claims(verdict: str) -> list[Claim]:
    """Return the claims about pre-training on its own; `verdict` names the reward that is, or stands for, a judge."""
    masks = "A curriculum over the number of masks beats mixed masks"
    hacked = "Plain recall is hacked: answers grow"
    mended = "A length penalty mends it: more answers are exact"
    penalised = "recall_with_length_penalty"
    judged = "A judge's verdict" if verdict == "judge" else "An exact verdict (in place of a judge)"
    guarded = [(f"{method}, on", f"{method}, off") for method in METHODS]
    return [
        *(
            _on_ramp(f"{masks} ({m})", "MaskSearch", "curriculum", (f"{m}, curriculum", f"{m}, mixed"))
            for m in METHODS
        ),
        _on_ramp(hacked, "MaskSearch", "rewards", ("recall", penalised), measure="length"),
        _on_ramp(mended, "MaskSearch", "rewards", (penalised, "recall"), measure="em"),
        _on_ramp(f"{judged} beats plain recall", "MaskSearch", "rewards", (verdict, "recall")),
        _on_ramp("Dynamic sampling helps", "DAPO", "sampling", ("on", "off")),
        _on_ramp("Withholding a task's source helps", "this project", "leak_guard", *guarded),
    ]


def _evolution_claims(rounds: int, has_control: bool) -> list[Claim]:
    last = f"round {rounds}"
    claims = [_on_ramp("Self-evolution helps", "MaskSearch", "evolution", (last, "round 1"))]
    if has_control:
        text = "Self-evolution helps more than as long a training on the first round"
        claims.append(_on_ramp(text, _STRICTER, "evolution", (last, LONGER_TRAINING)))
    return claims


def _has_room(claim: Claim, runs: Sequence[ArmRun], smallest_gain: float) -> bool:
    """Return whether a gain that matters could be seen at all between the arms of a claim."""
    named = {arm for pair in claim.pairs for arm in pair}
    measure = MEASURES[claim.measure]
    asked = [_results(claim, run.arm, runs, run.seed) for run in runs if run.arm in named]
    means = [sum(map(measure, results)) / len(results) for results in asked]
    is_perfect = claim.measure != "length" and min(means) > 1 - smallest_gain
    return max(means) >= smallest_gain and not is_perfect


def _results(claim: Claim, arm: str, runs: Sequence[ArmRun], seed: int) -> list[QuestionResult]:
    """Return the results of an arm with one seed on all sets of a claim."""
    arms = {run.arm: run.results for run in runs if run.seed == seed}
    first = claim.pairs[0][0]
    for needed in (arm, first):
        if needed not in arms:
            raise EvaluationError(f"the run of seed {seed} has no arm {needed!r} to decide {claim.text!r} by")
    for name in claim.sets:
        if {found.task_id for found in arms[arm][name]} != {found.task_id for found in arms[first][name]}:
            raise EvaluationError(
                f"{arm!r} and {first!r} were asked different questions of {name!r} with seed {seed}"
            )
    return [result for name in claim.sets for result in arms[arm][name]]
