"""The conformance kit on the models of this repository."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conformance.recording_model import RecordingModelConformance, Subject
from fakes.chat_models import ScriptedRecordingModel

from masksearch_agent.models.local import LocalChatModel


class TestScriptedRecordingModel(RecordingModelConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        model = ScriptedRecordingModel(script=["<think>a</think><search>b</search>", "reply two"])
        return Subject(model, model.sent)


@pytest.mark.parametrize("subject", [0.0, 1.0], ids=["greedy", "sampled"], indirect=True)
class TestLocalChatModel(RecordingModelConformance):
    @pytest.fixture
    def subject(
        self,
        request: pytest.FixtureRequest,
        tiny_model: Any,
        tiny_tokenizer: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[Subject]:
        model = LocalChatModel(
            model=tiny_model, tokenizer=tiny_tokenizer, temperature=request.param, max_tokens=8
        )
        sent: list[tuple[int, ...]] = []
        generate = tiny_model.generate

        def spy(**kwargs: Any) -> Any:
            rows = zip(kwargs["input_ids"].tolist(), kwargs["attention_mask"].tolist(), strict=True)
            sent.extend(
                tuple(i for i, is_real in zip(ids, mask, strict=True) if is_real) for ids, mask in rows
            )
            return generate(**kwargs)

        monkeypatch.setattr(tiny_model, "generate", spy, raising=False)
        yield Subject(model, sent)
        model.close()
