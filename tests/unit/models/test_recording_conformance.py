"""The conformance kit on the models of this repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

        submit = model._engine.submit

        def spy(prompt_ids: Sequence[int], *rest: Any) -> Any:
            sent.append(tuple(prompt_ids))
            return submit(prompt_ids, *rest)

        model._engine.submit = spy  # type: ignore[method-assign]
        yield Subject(model, sent)
        model.close()
