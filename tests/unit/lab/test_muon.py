from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from masksearch_agent.config.trainers import OptimizerSettings  # noqa: E402
from masksearch_agent.lab.muon import MuonWithAdamW, make_muon_with_adamw  # noqa: E402


class Net(nn.Module):
    """An embedding, two hidden matrices, a norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(7, 6)
        self.up = nn.Linear(6, 8)
        self.down = nn.Linear(8, 6, bias=False)
        self.norm = nn.LayerNorm(6)
        self.lm_head = nn.Linear(6, 7, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.norm(self.down(torch.relu(self.up(self.embed_tokens(ids))))))


MATRICES = {"up.weight", "down.weight"}


def rates(muon: float, adamw: float) -> OptimizerSettings:
    return OptimizerSettings(name="muon", muon_learning_rate=muon, learning_rate=adamw)


def losses(net: Net, steps: int) -> Iterator[torch.Tensor]:
    for step in range(steps):
        ids = torch.arange(step, step + 5) % 7
        yield nn.functional.cross_entropy(net(ids), (ids + 1) % 7)


def train(net: Net, optimizers: list[torch.optim.Optimizer], steps: int = 4) -> None:
    for loss in losses(net, steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()


def assert_equal(first: Net, second: Net) -> None:
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_hidden_matrices_go_to_muon_and_the_rest_to_adamw() -> None:
    net = Net()
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    muon, adamw = make_muon_with_adamw(net, rates(0.02, 0.003)).parts
    assert {names[id(p)] for group in muon.param_groups for p in group["params"]} == MATRICES
    rest = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert rest == set(names.values()) - MATRICES


def test_frozen_parameters_are_left_out() -> None:
    net = Net()
    net.up.weight.requires_grad = False
    net.norm.requires_grad_(False)
    optimizer = make_muon_with_adamw(net, rates(0.02, 0.003))
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in net.parameters() if p.requires_grad}


def test_either_kind_may_be_missing() -> None:
    net = Net()
    for name, parameter in net.named_parameters():
        parameter.requires_grad = name in MATRICES
    [muon] = make_muon_with_adamw(net, rates(0.02, 0.003)).parts
    assert isinstance(muon, torch.optim.Muon)
    for name, parameter in net.named_parameters():
        parameter.requires_grad = name not in MATRICES
    [adamw] = make_muon_with_adamw(net, rates(0.02, 0.003)).parts
    assert isinstance(adamw, torch.optim.AdamW)


def test_it_equals_stepping_both_optimizers_separately() -> None:
    together, apart = Net(), Net()
    named = dict(apart.named_parameters())
    muon = torch.optim.Muon([named[name] for name in sorted(MATRICES)], lr=0.02, weight_decay=0.0)
    adamw = torch.optim.AdamW(
        [p for name, p in named.items() if name not in MATRICES],
        lr=0.003,
        weight_decay=0.0,
        betas=(0.9, 0.95),
    )
    start = copy.deepcopy(together)
    train(together, [make_muon_with_adamw(together, rates(0.02, 0.003))])
    train(apart, [muon, adamw])
    assert_equal(together, apart)
    assert all(
        not torch.equal(before, after)
        for before, after in zip(start.parameters(), together.parameters(), strict=True)
    )


def test_a_restored_state_goes_on_as_if_never_interrupted() -> None:
    straight, first = Net(), Net()
    optimizer = make_muon_with_adamw(straight, rates(0.02, 0.003))
    train(straight, [optimizer])
    train(straight, [optimizer])

    before = make_muon_with_adamw(first, rates(0.02, 0.003))
    train(first, [before])
    second = copy.deepcopy(first)
    after = make_muon_with_adamw(second, rates(0.5, 0.5))
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    assert [group["lr"] for group in after.param_groups] == [0.02, 0.003]
    train(second, [after])
    assert_equal(second, straight)


def test_the_state_is_saved_without_pickled_code(tmp_path: object) -> None:
    net = Net()
    optimizer = make_muon_with_adamw(net, rates(0.02, 0.003))
    train(net, [optimizer])
    path = f"{tmp_path}/optimizer.pt"
    torch.save(optimizer.state_dict(), path)
    optimizer.load_state_dict(torch.load(path, weights_only=True))


def test_a_scheduler_changes_both_learning_rates() -> None:
    net = Net()
    optimizer = make_muon_with_adamw(net, rates(0.02, 0.003))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (1 + step))
    train(net, [optimizer], steps=1)
    scheduler.step()
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.01, 0.0015]


def test_a_scheduler_still_changes_both_after_a_restore() -> None:
    net = Net()
    optimizer = make_muon_with_adamw(net, rates(0.02, 0.003))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (1 + step))
    train(net, [optimizer], steps=1)
    scheduler.step()
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    scheduler.step()
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == pytest.approx([0.02 / 3, 0.001])


def test_a_closure_is_called_once_and_its_loss_returned() -> None:
    net = Net()
    optimizer = make_muon_with_adamw(net, rates(0.02, 0.003))
    calls: list[float] = []

    def closure() -> float:
        loss = next(losses(net, 1))
        loss.backward()
        calls.append(loss.item())
        return calls[-1]

    assert optimizer.step(closure) == calls[0]
    assert len(calls) == 1


def test_zero_grad_reaches_every_parameter() -> None:
    net = Net()
    optimizer: MuonWithAdamW = make_muon_with_adamw(net, rates(0.02, 0.003))
    next(losses(net, 1)).backward()
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in net.parameters())
