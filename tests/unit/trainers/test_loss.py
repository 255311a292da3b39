from __future__ import annotations

import inspect
import math
import random
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from masksearch_agent.trainers.loss import (  # noqa: E402
    OBJECTIVES,
    cispo_loss,
    dapo_loss,
    dr_grpo_loss,
    gspo_loss,
    importance_weights,
    start_kl,
)


@pytest.mark.parametrize("is_weighed", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_the_loss_is_that_of_a_loop_by_hand(seed: int, is_weighed: bool) -> None:
    """Random ragged batches, with anything at all where no token trains."""
    rng = random.Random(seed)
    rows, width = rng.randrange(1, 6), rng.randrange(1, 9)
    low, high = rng.choice([(0.2, 0.28), (0.1, 0.5)])
    mask = [[rng.random() < 0.6 for _ in range(width)] for _ in range(rows)]
    junk = (math.inf, -math.inf, math.nan, -3.0)
    new, old, weights = (
        [[-sign * rng.uniform(0, 1) if trains else rng.choice(junk) for trains in row] for row in mask]
        for sign in (1, 1, -1)
    )
    advantages = [rng.uniform(-2, 2) for _ in range(rows)]
    terms = []
    for row in range(rows):
        for column in range(width):
            if mask[row][column]:
                ratio = math.exp(new[row][column] - old[row][column])
                clipped = min(max(ratio, 1 - low), 1 + high)
                gain = min(ratio * advantages[row], clipped * advantages[row])
                terms.append(gain * (weights[row][column] if is_weighed else 1))
    expected = -sum(terms) / len(terms) if terms else 0.0
    logprobs = torch.tensor(new, requires_grad=True)
    loss = dapo_loss(
        logprobs, torch.tensor(old), torch.tensor(advantages), torch.tensor(mask), low, high,
        weights=torch.tensor(weights) if is_weighed else None,
    )  # fmt: skip
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    loss.backward()
    assert logprobs.grad.isfinite().all()
    assert not logprobs.grad[~torch.tensor(mask)].any()


def test_weights_are_ratios_up_to_the_bound_and_1_where_nothing_trains() -> None:
    old = torch.tensor([[-1.0, -1.0, -1.0, math.nan]], requires_grad=True)
    sampled = torch.tensor([[-1.0, -2.0, 0.0, 5.0]])
    weights = importance_weights(old, sampled, torch.tensor([[1, 1, 1, 0]]), clip_max=2.0)
    assert not weights.requires_grad
    assert weights.tolist() == [pytest.approx([1.0, 2.0, math.exp(-1), 1.0])]


def test_the_public_signature_stays() -> None:
    from masksearch_agent.trainers import dapo

    parameters = inspect.signature(dapo.dapo_loss).parameters
    positional = [p for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in positional] == [
        "logprobs", "old_logprobs", "advantages", "mask", "epsilon_low", "epsilon_high"
    ]  # fmt: skip
    assert [p.default for p in positional[-2:]] == [0.2, 0.28]
    assert [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY] == ["weights", "penalties"]


# Ratios of the first row: e^0.2 = 1.221403, e^0.4 = 1.491825; of the second: e^-0.5 = 0.606531, 1, e^-0.3 = 0.740818.
NEW = [[-1.0, -0.5, math.nan], [-2.0, -1.0, -1.5], [math.inf, 0.0, 0.0]]
OLD = [[-1.2, -0.9, math.inf], [-1.5, -1.0, -1.2], [0.0, math.nan, 0.0]]
MASK = [[1, 1, 0], [1, 1, 1], [0, 0, 0]]
ADVANTAGES = [1.0, -0.5, 7.0]
HAND_COMPUTED = [
    # 1.221403 + 1.28 (clipped) - 0.4 (clipped) - 0.5 - 0.4 (clipped), over five tokens
    (dapo_loss, {}, -1.201403 / 5),
    # whole rows: e^0.3 clipped to 1.28, and -0.5 * e^(-0.8/3) = -0.383, of which 0.8 * -0.5 is the lesser
    (gspo_loss, {"epsilon_low": 0.2, "epsilon_high": 0.28}, -(1.28 - 0.4) / 2),
    (gspo_loss, {}, -(1.0004 - 0.5 * 0.9997) / 2),
    # each ratio times advantage times log-probability
    (cispo_loss, {}, -(-1.221403 - 0.745912 + 0.606531 + 0.5 + 0.555614) / 5),
    (cispo_loss, {"epsilon_high": 0.3}, -(-1.221403 - 0.65 + 0.606531 + 0.5 + 0.555614) / 5),
    # 1.2 + 1.2 - 0.4 - 0.5 - 0.4, over two rows of at most four tokens
    (dr_grpo_loss, {"max_tokens": 4}, -1.1 / 8),
]


@pytest.mark.parametrize(("loss", "settings", "expected"), HAND_COMPUTED)
def test_each_loss_is_what_its_equation_gives_by_hand(loss: Any, settings: Any, expected: float) -> None:
    logprobs = torch.tensor(NEW, requires_grad=True)
    found = loss(logprobs, torch.tensor(OLD), torch.tensor(ADVANTAGES), torch.tensor(MASK), **settings)
    assert found.item() == pytest.approx(expected, abs=1e-6)
    found.backward()
    assert logprobs.grad.isfinite().all()
    assert not logprobs.grad[torch.tensor(MASK) == 0].any()


def test_cispo_leaves_every_token_its_gradient_and_none_to_the_ratio() -> None:
    """The gradient of a token is its clipped ratio times its advantage: where DAPO clips, it has none."""
    grads = []
    for loss in (cispo_loss, dapo_loss):
        logprobs = torch.tensor(NEW, requires_grad=True)
        loss(
            logprobs, torch.tensor(OLD), torch.tensor(ADVANTAGES), torch.tensor(MASK), epsilon_high=0.28
        ).backward()
        grads.append(logprobs.grad)
    assert grads[0][0].tolist() == pytest.approx([-1.221403 / 5, -1.28 / 5, 0.0], abs=1e-6)
    assert grads[1][0].tolist() == pytest.approx([-1.221403 / 5, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weights_scale_gains_and_penalties_are_taken_off(name: str) -> None:
    objective = OBJECTIVES[name]
    given = [torch.tensor(values) for values in (NEW, OLD, ADVANTAGES, MASK)]
    options = {"max_tokens": 4} if name == "dr_grpo" else {}
    plain = objective.loss(*given, *objective.epsilons, **options).item()
    weights, penalties = torch.full((3, 3), 2.0), torch.tensor(MASK) * 0.25
    found = objective.loss(*given, *objective.epsilons, weights=weights, penalties=penalties, **options)
    # Dr. GRPO divides five penalties by two rows of four tokens, all others take a mean.
    paid = 0.25 * 5 / 8 if name == "dr_grpo" else 0.25
    assert found.item() == pytest.approx(2 * plain + paid, abs=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_trained_is_no_loss(name: str) -> None:
    logprobs = torch.zeros(2, 3, requires_grad=True)
    found = OBJECTIVES[name].loss(logprobs, torch.zeros(2, 3), torch.ones(2), torch.zeros(2, 3))
    assert found.item() == 0
    found.backward()
    assert not logprobs.grad.any()


def test_the_divergence_from_the_start_is_the_k3_estimate() -> None:
    new = torch.tensor([[-1.0, -1.0, -1.0, math.nan]], requires_grad=True)
    start = torch.tensor([[-1.3, -1.0, -0.5, 0.0]])
    found = start_kl(new, start, torch.tensor([[1, 1, 1, 0]]))
    # e^-0.3 + 0.3 - 1 and e^0.5 - 0.5 - 1
    assert found.tolist() == [pytest.approx([0.0408182, 0.0, 0.1487213, 0.0], abs=1e-6)]
    found.sum().backward()
    # 1 - e^-0.3: the policy is pulled back down, and up where it fell.
    assert new.grad.tolist() == [pytest.approx([0.2591818, 0.0, -0.6487213, 0.0], abs=1e-6)]
