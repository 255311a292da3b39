"""The conformance kit on the local model, in the precisions that a GPU is used in."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conformance.recording_model import RecordingModelConformance, Subject

torch = pytest.importorskip("torch")

from masksearch_agent.models.engine import BatchingEngine  # noqa: E402
from masksearch_agent.models.local import LocalChatModel  # noqa: E402
from masksearch_agent.records import Sampling  # noqa: E402

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}


@pytest.mark.parametrize("subject", list(TOLERANCE), indirect=True)
class TestLocalChatModel(RecordingModelConformance):
    @pytest.fixture
    def subject(
        self, request: pytest.FixtureRequest, device: str, tiny_model: Any, tiny_tokenizer: Any
    ) -> Iterator[Subject]:
        weights = copy.deepcopy(tiny_model).to(device, getattr(torch, request.param))
        model = LocalChatModel(model=weights, tokenizer=tiny_tokenizer, temperature=1.0, max_tokens=8)
        sent: list[tuple[int, ...]] = []
        submit = model._engine.submit

        def spy(prompt_ids: Sequence[int], *rest: Any) -> Any:
            sent.append(tuple(prompt_ids))
            return submit(prompt_ids, *rest)

        model._engine.submit = spy  # type: ignore[method-assign]
        yield Subject(model, sent, TOLERANCE[request.param])
        model.close()


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_what_is_recorded_is_what_one_whole_pass_computes(
    device: str, dtype: str, tiny_model: Any, tiny_tokenizer: Any, record_property: Any
) -> None:
    """The engine reads in pieces, keeps what it read, and batches rows of all lengths; a trainer does none of it."""
    model = copy.deepcopy(tiny_model).to(device, getattr(torch, dtype))
    engine = BatchingEngine(model, tiny_tokenizer, end_of_turn_id=-1)
    prompts = [list(range(5, 5 + length)) for length in (3, 40, 41, 90)]
    sampled = [
        engine.submit(prompt, Sampling(temperature=1.0, max_tokens=20, seed=seed))
        for seed, prompt in enumerate(prompts * 4)
    ]
    differences = []
    for prompt, future in zip(prompts * 4, sampled, strict=True):
        completion = future.result()
        ids = torch.tensor([[*prompt, *completion.ids]], device=device)
        with torch.no_grad():
            logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
        whole = torch.log_softmax(logits, -1).gather(-1, ids[0, len(prompt) :, None])[:, 0]
        differences.append((whole.cpu() - torch.tensor(completion.logprobs)).abs().max().item())
    engine.close()
    record_property("difference", max(differences))
    assert max(differences) < TOLERANCE[dtype]


def test_a_model_is_loaded_where_it_is_to_sample(
    device: str, tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
):
    tiny_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert LocalChatModel.from_pretrained(tmp_path).model.device.type == device
    assert LocalChatModel.from_pretrained(tmp_path, device="meta").model.device.type == "meta"
