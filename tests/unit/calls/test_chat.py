from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any, ClassVar

import pytest
from fakes.chat_models import ScriptedChatModel
from fakes.chat_server import ChatServer, code_task
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from masksearch_agent.calls.accounting import CallLog
from masksearch_agent.calls.chat import ChatCaller, open_chat_caller, open_chat_model
from masksearch_agent.calls.replies import Line, Reply
from masksearch_agent.config.calls import CallSettings, ChatModelSettings
from masksearch_agent.errors import ReplyError, ServiceRefusedError
from masksearch_agent.generator.role_prompts import PLANNER_PROMPT, NextNeeds
from masksearch_agent.records import Message

FAST = CallSettings(timeout_s=60, patience_s=400, first_wait_s=0.01, longest_wait_s=0.05)


class Named(Reply):
    name: Line


ASK = [Message("system", "Say a name."), Message("user", "Who?")]


def test_the_conversation_of_a_repair_repeats_what_was_said_and_what_was_wrong() -> None:
    model = ScriptedChatModel(script=["Ada", "<name>Ada</name>"])
    log = CallLog()
    reply = asyncio.run(ChatCaller(model).ask(ASK, Named, "namer", log=log, turn_id="3.namer"))
    assert reply == Named(name="Ada")
    assert [(m.type, m.text) for m in model.calls[1]][:3] == [
        ("system", "Say a name."),
        ("human", "Who?"),
        ("ai", "Ada"),
    ]
    assert "there is no tag" in str(model.calls[1][3].text)
    assert [(turn.id, turn.parent_id, turn.role) for turn in log.turns] == [
        ("3.namer", None, "namer"),
        ("3.namer.repair1", "3.namer", "namer"),
    ]
    assert [len(turn.context) for turn in log.turns] == [2, 1]


def test_no_more_repairs_are_asked_for_than_allowed() -> None:
    model = ScriptedChatModel(script=["Ada"])
    with pytest.raises(ReplyError, match="namer reply malformed: there is no tag"):
        asyncio.run(ChatCaller(model).ask(ASK, Named, "namer", max_repairs=1))
    assert len(model.calls) == 2


def test_usage_that_is_not_reported_is_taken_from_the_characters() -> None:
    caller = ChatCaller(ScriptedChatModel(script=["<name>Ada</name>"]))
    asyncio.run(caller.ask(ASK, Named, "namer"))
    assert caller.spending.total.prompt_tokens == len("Say a name.Who?") // 4
    assert caller.spending.total.sampled_tokens == len("<name>Ada</name>") // 4


class StructuredModel(ScriptedChatModel):
    """Replies through `with_structured_output` with the given arguments, parsed as LangChain would."""

    outputs: list[Any]

    def with_structured_output(self, schema: Any, *, include_raw: bool = False, **_: Any) -> Any:
        assert include_raw

        def reply(_: Any) -> dict[str, Any]:
            arguments = self.outputs.pop(0)
            raw = AIMessage("", tool_calls=[{"name": "Named", "args": arguments, "id": "1"}])
            parsed = schema(**arguments) if set(arguments) == {"name"} else None
            return {"raw": raw, "parsed": parsed, "parsing_error": None if parsed else ValueError("no")}

        return RunnableLambda(reply)


def test_structured_output_is_checked_and_mended_like_text() -> None:
    model = StructuredModel(script=[], outputs=[{"nam": "x"}, {"name": "Ada"}])
    log = CallLog()
    caller = ChatCaller(model, is_structured=True)
    assert asyncio.run(caller.ask(ASK, Named, "namer", log=log)) == Named(name="Ada")
    assert [turn.text for turn in log.turns] == ['{"nam": "x"}', '{"name": "Ada"}']
    assert "<name> is missing" in log.turns[1].context[0].content


def test_a_structured_reply_that_the_client_cannot_read_is_malformed_and_no_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("langchain", reason="langchain is not installed (extra `llm`)")
    pytest.importorskip("langchain_openai", reason="langchain-openai is not installed (extra `llm`)")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-local-0123456789")
    replies = iter(["<name>Ada</name>", '{"name": "Ada"}'])
    with ChatServer(reply=lambda _: next(replies)) as server:
        settings = ChatModelSettings(model="openai:fake", base_url=server.url, structured=True, calls=FAST)
        log = CallLog()
        said = asyncio.run(open_chat_caller(settings).ask(ASK, Named, "namer", log=log))
    assert said == Named(name="Ada")
    assert "it does not follow the schema" in log.turns[1].context[0].content


class _Init(ModuleType):
    seen: ClassVar[dict[str, Any]] = {}

    @staticmethod
    def init_chat_model(model: str, **options: Any) -> Any:
        _Init.seen = {"model": model, **options}
        if model == "openai:keyless":
            raise ValueError("the key sk-verysecret is wrong")
        return ScriptedChatModel(script=["<name>Ada</name>"])


@pytest.fixture
def _init(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain", ModuleType("langchain"))
    monkeypatch.setitem(sys.modules, "langchain.chat_models", _Init("langchain.chat_models"))


@pytest.mark.usefixtures("_init")
def test_a_model_is_opened_by_name_and_does_not_retry_on_its_own() -> None:
    caller = open_chat_caller(ChatModelSettings(model="openai:x", temperature=0.5, base_url="http://h/v1"))
    assert caller.name == "openai:x"
    assert _Init.seen == {
        "model": "openai:x", "temperature": 0.5, "base_url": "http://h/v1", "max_tokens": 2048, "max_retries": 0,
    }  # fmt: skip


@pytest.mark.usefixtures("_init")
def test_a_model_that_cannot_be_set_up_is_named_without_its_key() -> None:
    with pytest.raises(ServiceRefusedError, match="cannot set up the chat model 'openai:keyless'") as raised:
        open_chat_caller(ChatModelSettings(model="openai:keyless"))
    assert "verysecret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ImportError("requires the langchain-groq package"), "run `pip install langchain-some-maker`"),
        (AttributeError("module langchain_community.chat_models has no attribute X"), "langchain-some-maker"),
        (AttributeError("something else"), "expected `provider:name`"),
    ],
)
def test_the_package_of_another_provider_is_named(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise failure

    monkeypatch.setattr("langchain.chat_models.init_chat_model", fail)
    with pytest.raises(ServiceRefusedError, match=message):
        open_chat_model(ChatModelSettings(model="some_maker:m"))


def test_openais_client_survives_every_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("langchain", reason="langchain is not installed (extra `llm`)")
    pytest.importorskip("langchain_openai", reason="langchain-openai is not installed (extra `llm`)")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-local-0123456789")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ChatServer(fault_share=0.4, seed=4) as server:
        caller = open_chat_caller(ChatModelSettings(model="openai:fake", base_url=server.url, calls=FAST))
        ask = [
            Message("system", PLANNER_PROMPT.format(max_needs=3)),
            Message("user", code_task(5).question),
        ]

        async def many() -> list[NextNeeds]:
            return await asyncio.gather(*(caller.ask(ask, NextNeeds, "planner") for _ in range(12)))

        replies = asyncio.run(many())
    assert [reply.needs for reply in replies] == [("the code of item 5",)] * 12
    assert {"429", "503", "reset", "html", "good"} <= set(server.served)
    assert server.keys_seen == {"Bearer sk-local-0123456789"}
    assert caller.spending.total.prompt_tokens > 0
