"""A server that answers as vLLM does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes.vllm_server import FakeVLLMServer

from masksearch_agent.models.chat_format import ChatFormat


@pytest.fixture
def server(tiny_model: Any, tiny_tokenizer: Any) -> Iterator[FakeVLLMServer]:
    server = FakeVLLMServer(tiny_model, tiny_tokenizer, ChatFormat(tiny_tokenizer).end_of_turn_id)
    yield server
    server.engine.close()
