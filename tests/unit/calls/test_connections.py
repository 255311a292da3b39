from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
from fakes.chat_server import ChatServer, code_task

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.calls.chat import open_chat_caller
from masksearch_agent.calls.connections import close_connections, open_connections
from masksearch_agent.config.calls import CallSettings, ChatModelSettings
from masksearch_agent.errors import ServiceRefusedError
from masksearch_agent.generator.role_prompts import PLANNER_PROMPT, NextNeeds
from masksearch_agent.records import Message

pytest.importorskip("langchain_openai")
pytest.importorskip("aiohttp")


def settings_for(server: ChatServer) -> ChatModelSettings:
    calls = CallSettings(first_wait_s=0.01, longest_wait_s=0.05, timeout_s=0.5)
    return ChatModelSettings(model="openai:m", base_url=server.url, calls=calls)


async def ask_all(caller: Any, count: int) -> list[NextNeeds]:
    try:
        questions = (code_task(number).question for number in range(count))
        asked = (
            caller.ask(
                [Message("system", PLANNER_PROMPT.format(max_needs=3)), Message("user", question)],
                NextNeeds,
                "p",
            )
            for question in questions
        )
        return await asyncio.gather(*asked)
    finally:
        await close_connections()


def test_one_client_survives_faults_and_one_event_loop_after_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    with ChatServer(fault_share=0.3, slow_s=1.0, seed=1) as server, caplog.at_level(logging.ERROR):
        caller = open_chat_caller(settings_for(server), Spending(), has_many_calls=True)
        for _ in range(2):
            replies = asyncio.run(ask_all(caller, 30))
            assert [reply.needs for reply in replies] == [
                (f"the code of item {number}",) for number in range(30)
            ]
        assert server.served.total() > server.served["good"] >= 60
    gc.collect()
    # aiohttp logs what is left open.
    assert caplog.records == []


def test_a_client_that_nobody_called_has_nothing_to_close() -> None:
    assert open_connections() is not None
    asyncio.run(close_connections())


def test_a_server_that_is_not_there_is_waited_for_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    with ChatServer() as server:
        settings = settings_for(server)
    settings = settings.model_copy(update={"calls": settings.calls.model_copy(update={"patience_s": 0.2})})
    caller = open_chat_caller(settings, Spending(), has_many_calls=True)
    with pytest.raises(Exception, match="keeps failing") as failure:
        asyncio.run(ask_all(caller, 1))
    assert not isinstance(failure.value, ServiceRefusedError)


def test_many_calls_send_what_langchains_own_model_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    requests = []
    with ChatServer() as server:
        for has_many_calls in (False, True):
            caller = open_chat_caller(settings_for(server), Spending(), has_many_calls=has_many_calls)
            asyncio.run(ask_all(caller, 1))
            requests.append(server.last_request)
    assert requests[0] == requests[1]
    assert [message["role"] for message in requests[1]["messages"]] == ["system", "user"]
