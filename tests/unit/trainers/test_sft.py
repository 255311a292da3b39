from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from fakes.tiny_models import make_test_model  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from masksearch_agent.agent.prompts import COMPACT_PROMPTS  # noqa: E402
from masksearch_agent.config.trainers import OptimizerSettings, SFTSettings  # noqa: E402
from masksearch_agent.errors import TrainingError  # noqa: E402
from masksearch_agent.failures import Failures  # noqa: E402
from masksearch_agent.lab.tiny import make_tiny_model  # noqa: E402
from masksearch_agent.models.chat_format import ChatFormat  # noqa: E402
from masksearch_agent.records import Message, Trajectory, Turn  # noqa: E402
from masksearch_agent.trainers.callbacks import MetricsLog, read_metrics  # noqa: E402
from masksearch_agent.trainers.optimization import lora_config, optimizer_arguments  # noqa: E402
from masksearch_agent.trainers.sft import train_sft  # noqa: E402
from masksearch_agent.trainers.sft_rows import make_sft_dataset  # noqa: E402

NAMES = ("Ada Fenwick", "Bram Holt", "Clara Voss", "Port Aldin")
MUON = OptimizerSettings(name="muon", learning_rate=3e-3, muon_learning_rate=0.02, schedule="constant")


def make_trajectory(name: str, padding: str = "") -> Trajectory:
    opening = (
        Message("system", COMPACT_PROMPTS.question_system),
        Message("user", f"Who leads {name}?{padding}"),
    )
    shown = Message("user", f"<information>\n[1] {name} is the mayor.\n</information>")
    search = Turn("0", None, "policy", opening, f"<think>I need it.</think><search>{name} mayor</search>")
    answer = Turn("1", "0", "policy", (shown,), f"<think>It is here [1].</think><answer>{name}</answer>")
    return Trajectory(name, name, (search, answer), name, "answered", producer="hindsight")


TRAJECTORIES = [make_trajectory(name) for name in NAMES]


class Steps(TrainerCallback):  # type: ignore[misc]
    """Notes the steps that were taken and, if told to, stops after one of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.taken: list[int] = []
        self.stop_after = stop_after

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.taken.append(state.global_step)
        if state.global_step == self.stop_after:
            control.should_training_stop = True


def loss_of(model: Any, tokenizer: Any, trajectories: list[Trajectory]) -> float:
    losses = []
    for row in make_sft_dataset(trajectories, ChatFormat(tokenizer), 2048):
        logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(row["labels"][1:])).item())
    return sum(losses) / len(losses)


def settings(**changes: Any) -> SFTSettings:
    return SFTSettings(batch_size=4, max_steps=60, optimizer=MUON, **changes)


def test_labels_stand_at_the_tokens_of_the_policy_and_nowhere_else(tiny_tokenizer: Any) -> None:
    [row] = make_sft_dataset(TRAJECTORIES[:1], ChatFormat(tiny_tokenizer), 2048)
    labels, ids = row["labels"], row["input_ids"]
    assert all(label in (-100, token) for label, token in zip(labels, ids, strict=True))
    trained = tiny_tokenizer.decode([label for label in labels if label != -100])
    assert trained == (
        "<think>I need it.</think><search>Ada Fenwick mayor</search><|im_end|>"
        "<think>It is here [1].</think><answer>Ada Fenwick</answer><|im_end|>"
    )
    untrained = tiny_tokenizer.decode([t for t, label in zip(ids, labels, strict=True) if label == -100])
    assert untrained == (
        f"<|im_start|>system\n{COMPACT_PROMPTS.question_system}<|im_end|>\n"
        "<|im_start|>user\nWho leads Ada Fenwick?<|im_end|>\n<|im_start|>assistant\n"
        "\n<|im_start|>user\n<information>\n[1] Ada Fenwick is the mayor.\n</information><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_rows_keep_the_order_of_their_trajectories(tiny_tokenizer: Any) -> None:
    rows = make_sft_dataset(TRAJECTORIES, ChatFormat(tiny_tokenizer), 2048)
    texts = [tiny_tokenizer.decode(row["input_ids"]) for row in rows]
    assert [name in text for name, text in zip(NAMES, texts, strict=True)] == [True] * 4


def test_rows_that_are_too_long_are_left_out_whole_and_counted(tiny_tokenizer: Any) -> None:
    encoder = ChatFormat(tiny_tokenizer)
    [kept] = make_sft_dataset(TRAJECTORIES[:1], encoder, 2048)
    limit = len(kept["input_ids"])
    mixed = [TRAJECTORIES[0], make_trajectory("Ada Fenwick", padding=" Tell me."), TRAJECTORIES[0]]
    failures = Failures()
    rows = make_sft_dataset(mixed, encoder, limit, failures)
    assert [row["input_ids"] for row in rows] == [kept["input_ids"]] * 2
    assert failures.reasons == {"a row of … tokens is longer than `max_tokens` (…); raise it to keep them": 1}


def test_a_trajectory_that_cannot_be_encoded_is_left_out_and_counted(tiny_tokenizer: Any) -> None:
    class Picky(ChatFormat):
        def encode_reply(self, text: str) -> list[int]:
            if "Bram" in text:
                raise TypeError("no text")
            return super().encode_reply(text)

    failures = Failures()
    encoder = Picky(tiny_tokenizer)
    mixed = [make_trajectory(name) for name in ("Ada Fenwick", "Bram Holt", "Clara Voss")]
    assert len(make_sft_dataset(mixed, encoder, 2048, failures)) == 2
    assert failures.reasons == {"TypeError: no text": 1}
    with pytest.raises(TrainingError, match="1 failed: TypeError: no text"):
        make_sft_dataset(mixed[1:2], encoder, 2048)


@pytest.mark.parametrize(
    ("trajectories", "reason"),
    [([], "none was given"), (TRAJECTORIES, "4 failed: a row of … tokens is longer")],
)
def test_nothing_to_train_on_is_refused(
    tiny_tokenizer: Any, trajectories: list[Trajectory], reason: str
) -> None:
    with pytest.raises(TrainingError, match=reason):
        make_sft_dataset(trajectories, ChatFormat(tiny_tokenizer), 10)


def test_the_warmup_is_a_share_of_all_steps(tmp_path: Path) -> None:
    from trl import SFTConfig

    arguments, optimizer = optimizer_arguments(OptimizerSettings(warmup_ratio=0.1))
    config = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **arguments)
    assert config.get_warmup_steps(200) == 20
    assert optimizer is None


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_every_schedule_warms_up(tmp_path: Path, schedule: Any) -> None:
    from transformers import get_scheduler
    from trl import SFTConfig

    def rates(warmup_ratio: float) -> list[float]:
        settings = OptimizerSettings(learning_rate=1.0, schedule=schedule, warmup_ratio=warmup_ratio)
        arguments, _ = optimizer_arguments(settings)
        config = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **arguments)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler = get_scheduler(config.lr_scheduler_type, optimizer, config.get_warmup_steps(20), 20)
        found = []
        for _ in range(20):
            found += scheduler.get_last_lr()
            optimizer.step()
            scheduler.step()
        return found

    assert rates(0.5)[:11] == pytest.approx([step / 10 for step in range(11)])
    assert rates(0.0)[0] == 1.0


def test_a_tiny_model_learns_four_trajectories_by_heart(tiny_tokenizer: Any, tmp_path: Path) -> None:
    model = make_tiny_model(tiny_tokenizer, hidden_size=64, layers=2, heads=2, max_positions=256)
    assert loss_of(model, tiny_tokenizer, TRAJECTORIES) > 3
    trained = train_sft(model, tiny_tokenizer, TRAJECTORIES, settings(), tmp_path)
    assert trained is model
    assert loss_of(trained, tiny_tokenizer, TRAJECTORIES) < 0.1


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_run_that_was_cut_off_goes_on_from_its_checkpoint(
    tiny_tokenizer: Any, tmp_path: Path, accumulation: int
) -> None:
    trajectories = [make_trajectory(name) for name in NAMES * 3]
    limits = SFTSettings(
        batch_size=2, gradient_accumulation=accumulation, max_steps=6, save_steps=2, optimizer=MUON
    )
    straight = train_sft(
        make_test_model(tiny_tokenizer), tiny_tokenizer, trajectories, limits, tmp_path / "straight"
    )
    first, second = Steps(stop_after=4), Steps()
    train_sft(
        make_test_model(tiny_tokenizer), tiny_tokenizer, trajectories, limits, tmp_path / "cut", [first]
    )
    resumed = train_sft(
        make_test_model(tiny_tokenizer, seed=9),
        tiny_tokenizer,
        trajectories,
        limits,
        tmp_path / "cut",
        [second],
    )
    assert (first.taken, second.taken) == ([1, 2, 3, 4], [5, 6])
    for (name, one), other in zip(straight.named_parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_adapters_train_and_are_merged_into_the_model(tiny_tokenizer: Any, tmp_path: Path) -> None:
    model = make_test_model(tiny_tokenizer)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    start = loss_of(model, tiny_tokenizer, TRAJECTORIES)
    adamw = OptimizerSettings(learning_rate=1e-2, schedule="constant")
    limits = SFTSettings(batch_size=4, max_steps=15, optimizer=adamw, lora_rank=4)
    trained = train_sft(model, tiny_tokenizer, TRAJECTORIES, limits, tmp_path)
    after = dict(trained.named_parameters())
    assert set(after) == set(before)
    assert loss_of(trained, tiny_tokenizer, TRAJECTORIES) < start
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.endswith("proj.weight") for name in changed)


def test_adapters_have_the_rank_that_was_asked_for() -> None:
    config = lora_config(8)
    assert (config.r, config.lora_alpha) == (8, 16)


@pytest.mark.parametrize("curriculum", [True, False])
def test_the_loss_sees_every_row_as_it_was_made_and_in_order_with_a_curriculum(
    tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curriculum: bool
) -> None:
    from trl import SFTTrainer

    seen: list[tuple[list[int], list[int]]] = []
    original = SFTTrainer.compute_loss

    def note(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        ids, labels = inputs["input_ids"][0].tolist(), inputs["labels"][0].tolist()
        length = int(inputs["attention_mask"][0].sum())
        assert set(labels[length:]) <= {-100}
        seen.append((ids[:length], labels[:length]))
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", note)
    trajectories = [make_trajectory(name) for name in NAMES * 4]
    limits = SFTSettings(batch_size=1, max_steps=16, optimizer=MUON, curriculum=curriculum)
    train_sft(make_test_model(tiny_tokenizer), tiny_tokenizer, trajectories, limits, tmp_path)
    dataset = make_sft_dataset(trajectories, ChatFormat(tiny_tokenizer), 2048)
    rows = [(row["input_ids"], row["labels"]) for row in dataset]
    assert (seen == rows) is curriculum
    assert sorted(seen) == sorted(rows)


def test_the_rows_of_a_step_are_divided_among_its_micro_batches_by_length(
    tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import SFTTrainer

    original = SFTTrainer.compute_loss
    seen: list[list[list[int]]] = []

    def note(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        ids = inputs["input_ids"].tolist()
        seen.append([row[:length] for row, length in zip(ids, lengths, strict=True)])
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", note)
    names = [" ".join(["Aria"] * (1 + number)) for number in range(12)]

    def micro_batches(seed: int) -> list[list[list[int]]]:
        seen.clear()
        limits = SFTSettings(batch_size=2, gradient_accumulation=2, max_steps=3, optimizer=MUON, seed=seed)
        trajectories = [make_trajectory(name) for name in names]
        train_sft(make_test_model(tiny_tokenizer), tiny_tokenizer, trajectories, limits, tmp_path / str(seed))
        return list(seen)

    batches = micro_batches(0)
    dataset = make_sft_dataset([make_trajectory(name) for name in names], ChatFormat(tiny_tokenizer), 2048)
    assert sorted(row for batch in batches for row in batch) == sorted(dataset["input_ids"])
    steps = list(zip(batches[::2], batches[1::2], strict=True))
    assert [len(one) + len(other) for one, other in steps] == [4, 4, 4]
    for one, other in steps:
        short, long = sorted((one, other), key=lambda batch: max(map(len, batch)))
        assert max(map(len, short)) <= min(map(len, long))
    assert micro_batches(1) != batches, "in another order for another seed"


def test_every_row_is_read_once_where_an_epoch_ends_in_fewer_rows_than_micro_batches(
    tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import SFTTrainer

    original = SFTTrainer.compute_loss
    seen: list[list[int]] = []

    def note(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        lengths, labels = inputs["attention_mask"].sum(dim=1).tolist(), inputs["labels"].tolist()
        ids = inputs["input_ids"].tolist()
        for row, length, label in zip(ids, lengths, labels, strict=True):
            seen.extend([row[:length]] if set(label) != {-100} else [])
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", note)
    # Two steps: sixteen rows, and one row for eight micro-batches.
    trajectories = [make_trajectory(f"n{number}") for number in range(17)]
    steps = Steps()
    limits = SFTSettings(batch_size=2, gradient_accumulation=8, optimizer=MUON)
    train_sft(make_test_model(tiny_tokenizer), tiny_tokenizer, trajectories, limits, tmp_path, [steps])
    rows = make_sft_dataset(trajectories, ChatFormat(tiny_tokenizer), 2048)
    assert sorted(seen) == sorted(rows["input_ids"])
    assert steps.taken == [1, 2]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_without_a_gpu_the_loss_is_trls_own_from_the_logits_of_labelled_positions(
    tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    from trl import SFTTrainer

    # The first rows are short: a batch of four is padded.
    trajectories = [*TRAJECTORIES, *[make_trajectory(name, " Tell me more about it." * 5) for name in NAMES]]
    # Ten steps, because that is how often metrics are logged; Muon rounds to bfloat16, which would drown a difference.
    adamw = OptimizerSettings(learning_rate=1e-3, schedule="constant")
    limits = SFTSettings(batch_size=batch_size, max_steps=10, optimizer=adamw)
    projected: list[int] = []

    def train(folder: Path) -> list[dict[str, float]]:
        model = make_test_model(tiny_tokenizer)
        model.lm_head.register_forward_hook(lambda *call: projected.append(call[2].shape[:-1].numel()))
        log = MetricsLog(folder / "metrics.jsonl")
        train_sft(model, tiny_tokenizer, trajectories, limits, folder / "trainer", [log])
        parameters.append(list(model.parameters()))
        return read_metrics(log.path)

    parameters: list[list[Any]] = []
    ours = train(tmp_path / "ours")
    rows = make_sft_dataset(trajectories, ChatFormat(tiny_tokenizer), 2048)
    most = max(sum(label != -100 for label in row["labels"]) for row in rows)
    assert 0 < max(projected) <= batch_size * most
    monkeypatch.setattr("masksearch_agent.trainers.logprobs.LabelledHeadTrainer", SFTTrainer)
    theirs = train(tmp_path / "theirs")
    for one, other in zip(*parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
    for name in ("loss", "grad_norm", "entropy", "mean_token_accuracy", "num_tokens"):
        found = [[entry[name] for entry in log if name in entry] for log in (ours, theirs)]
        assert found[0], name
        assert found[0] == pytest.approx(found[1], rel=1e-3), name
