from __future__ import annotations

from collections import Counter

import pytest
import torch

from masksearch_agent.models.sampling import RowSampler, pick_tokens
from masksearch_agent.records import Sampling

LOGITS = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05, 0.0]]))


def sample(draws: int, **settings: float) -> dict[int, float]:
    """Return the share of each token over many draws from the same logits."""
    sampler = RowSampler(Sampling(seed=1, **settings))  # type: ignore[arg-type]
    tokens = [pick_tokens(LOGITS, [sampler])[0][0] for _ in range(draws)]
    return {token: count / draws for token, count in Counter(tokens).items()}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"temperature": 1.0}, [0.5, 0.3, 0.15, 0.05]),
        ({"temperature": 0.5}, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
        ({"temperature": 1.0, "top_p": 0.8}, [0.625, 0.375]),
        ({"temperature": 1.0, "top_p": 0.79}, [0.625, 0.375]),
        ({"temperature": 1.0, "top_p": 0.1}, [1.0]),
        ({"temperature": 0.0}, [1.0]),
    ],
)
def test_tokens_are_drawn_from_the_asked_distribution(
    settings: dict[str, float], expected: list[float]
) -> None:
    draws = 4000
    shares = sample(draws, **settings)
    assert set(shares) <= set(range(len(expected)))
    for token, share in enumerate(expected):
        deviation = (share * (1 - share) / draws) ** 0.5
        assert shares.get(token, 0.0) == pytest.approx(share, abs=4 * deviation + 1e-9)


def test_log_probabilities_are_those_of_the_unscaled_distribution() -> None:
    samplers = [
        RowSampler(Sampling(temperature=t, top_p=p, seed=3)) for t, p in ((0.0, 1.0), (3.0, 1.0), (1.0, 0.6))
    ]
    tokens, logprobs = pick_tokens(LOGITS.repeat(3, 1), samplers)
    assert logprobs == pytest.approx([LOGITS[0, token].item() for token in tokens], abs=1e-6)


def test_rows_are_sampled_by_their_own_settings_and_seeds() -> None:
    logits = torch.zeros(3, 1000)
    rows = [
        Sampling(temperature=1.0, seed=1),
        Sampling(temperature=1.0, seed=2),
        Sampling(temperature=1.0, seed=1),
    ]
    tokens, _ = pick_tokens(logits, [RowSampler(row) for row in rows])
    assert tokens[0] == tokens[2] != tokens[1]


def test_without_a_seed_torchs_own_decides() -> None:
    logits = torch.zeros(1, 1000)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(pick_tokens(logits, [RowSampler(Sampling(temperature=1.0))])[0][0])
    assert found[0] == found[1] != found[2]


def test_a_token_without_probability_is_never_drawn() -> None:
    class Edge(RowSampler):
        def draw(self) -> float:
            return 1.0 - 1e-12

    logits = torch.tensor([[0.0, 0.0, -float("inf")]])
    assert pick_tokens(logits, [Edge(Sampling(temperature=1.0))])[0] == [1]
