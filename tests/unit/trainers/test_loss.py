from __future__ import annotations

import inspect
import math
import random

import pytest

torch = pytest.importorskip("torch")

from masksearch_agent.trainers.loss import dapo_loss, importance_weights  # noqa: E402


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
    assert [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY] == ["weights"]
