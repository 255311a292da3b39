from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from masksearch_agent.errors import ModelError
from masksearch_agent.records import Message
from masksearch_agent.traces.messages import to_messages


def test_every_role_has_its_own_name():
    messages = [
        SystemMessage("s"),
        HumanMessage("h"),
        AIMessage("a"),
        ToolMessage("t", tool_call_id="1"),
    ]
    assert to_messages(messages) == [
        Message("system", "s"),
        Message("user", "h"),
        Message("assistant", "a"),
        Message("tool", "t"),
    ]


def test_a_reply_in_blocks_is_read_as_its_text():
    reply = AIMessage(
        [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "yes"}]
    )
    assert to_messages([reply]) == [Message("assistant", "yes")]


def test_a_message_in_text_blocks_is_read_as_its_text():
    assert to_messages([HumanMessage([{"type": "text", "text": "a"}, "b"])]) == [Message("user", "ab")]


def test_a_picture_is_refused():
    picture = HumanMessage([{"type": "image_url", "image_url": "https://example.org/x.png"}])
    with pytest.raises(ModelError, match="not text"):
        to_messages([picture])


def test_an_unknown_role_is_refused():
    with pytest.raises(ModelError, match=r"type 'chat'; expected one of \['ai', 'human', 'system', 'tool'\]"):
        to_messages([ChatMessage("x", role="narrator")])
