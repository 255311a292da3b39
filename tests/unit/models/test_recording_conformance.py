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
        model = ScriptedRecordingModel(script=lambda messages: f"reply to {messages[-1].text}")
        return Subject(model, model.sent)


@pytest.mark.parametrize("subject", [0.0, 1.0], ids=["greedy", "sampled"], indirect=True)
class TestLocalChatModel(RecordingModelConformance):
    @pytest.fixture
    def subject(
        self,
        request: pytest.FixtureRequest,
        tiny_model: Any,
        tiny_tokenizer: Any,
    ) -> Iterator[Subject]:
        model = LocalChatModel(
            model=tiny_model, tokenizer=tiny_tokenizer, temperature=request.param, max_tokens=8
        )
        sent: list[tuple[int, ...]] = []

        def spy(_model: Any, _args: Any, kwargs: dict[str, Any]) -> None:
            ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
            if ids.shape[1] > 1:  # a prompt; what its last token attends to is not padding
                sent.extend(tuple(row[seen].tolist()) for row, seen in zip(ids, mask[:, 0, -1], strict=True))

        hook = tiny_model.register_forward_pre_hook(spy, with_kwargs=True)
        yield Subject(model, sent)
        hook.remove()
        model.close()
