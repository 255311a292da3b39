"""The standard tests of `langchain-tests`, unit and integration, for what our chat models support.

What they skip says so: tool calling and structured output (a model that records its tokens takes its steps in tagged
text), images, sound and PDFs (it reads text), another model's name in a call (the weights are the model), and a
recording of HTTP traffic (there is none).
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

from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests


@pytest.fixture
def benchmark(benchmark: Any) -> Any:
    """Return what runs a function once: its time would say how busy the machine is."""
    benchmark.disabled = True
    return benchmark


class Local:
    @pytest.fixture(autouse=True)
    def _make_weights(self, tiny_model: Any, tiny_tokenizer: Any) -> None:
        self.parts: dict[str, Any] = {"model": tiny_model, "tokenizer": tiny_tokenizer}

    @property
    def chat_model_class(self) -> type[LocalChatModel]:
        return LocalChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return self.parts

    @property
    def supports_model_override(self) -> bool:
        return False


class Served(Local):
    @pytest.fixture(autouse=True)
    def _make_server(self, tiny_model: Any, tiny_tokenizer: Any, _make_weights: None) -> Iterator[None]:
        server = FakeVLLMServer(tiny_model, tiny_tokenizer, tiny_tokenizer.eos_token_id)
        self.parts = {"tokenizer": tiny_tokenizer, "base_url": "http://vllm", "transport": server}
        yield
        server.engine.close()

    @property
    def chat_model_class(self) -> type[Any]:
        return VLLMChatModel


class Short:
    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        return {"max_tokens": 32}


class TestLocalChatModel(Local, ChatModelUnitTests):
    pass


class TestLocalChatModelInUse(Short, Local, ChatModelIntegrationTests):
    pass


class TestVLLMChatModel(Served, ChatModelUnitTests):
    pass


class TestVLLMChatModelInUse(Short, Served, ChatModelIntegrationTests):
    pass


class TestScriptedRecordingModel(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[ScriptedRecordingModel]:
        return ScriptedRecordingModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"script": ["hello"]}
