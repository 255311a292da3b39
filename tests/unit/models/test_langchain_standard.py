"""The standard unit tests of `langchain-tests`, for what our chat models support.

They skip tool calling and structured output: a model that records its tokens takes its steps in tagged text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes.chat_models import ScriptedRecordingModel
from fakes.vllm_server import FakeVLLMServer

from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.models.vllm import VLLMChatModel

pytest.importorskip("langchain_tests", reason="langchain-tests is not installed; it is part of the dev extra")

from langchain_tests.unit_tests import ChatModelUnitTests


@pytest.fixture
def benchmark(benchmark: Any) -> Any:
    """Return what runs a function once: its time would say how busy the machine is."""
    benchmark.disabled = True
    return benchmark


class TestLocalChatModel(ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _make_weights(self, tiny_model: Any, tiny_tokenizer: Any) -> None:
        self.weights = {"model": tiny_model, "tokenizer": tiny_tokenizer}

    @property
    def chat_model_class(self) -> type[LocalChatModel]:
        return LocalChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return self.weights


class TestVLLMChatModel(ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _make_server(self, tiny_model: Any, tiny_tokenizer: Any) -> Iterator[None]:
        server = FakeVLLMServer(tiny_model, tiny_tokenizer, tiny_tokenizer.eos_token_id)
        self.connection = {"tokenizer": tiny_tokenizer, "base_url": "http://vllm", "transport": server}
        yield
        server.engine.close()

    @property
    def chat_model_class(self) -> type[VLLMChatModel]:
        return VLLMChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return self.connection


class TestScriptedRecordingModel(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[ScriptedRecordingModel]:
        return ScriptedRecordingModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"script": ["hello"]}
