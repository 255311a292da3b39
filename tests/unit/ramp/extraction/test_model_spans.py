from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.chat_models import ScriptedChatModel
from langchain_core.messages import BaseMessage

from masksearch_agent.calls.cache import AnswerCache
from masksearch_agent.calls.chat import ChatCaller
from masksearch_agent.config.calls import CallSettings
from masksearch_agent.errors import ServiceError
from masksearch_agent.ramp.extraction.model_spans import ModelSpanExtractor
from masksearch_agent.records import Passage

ADA = Passage("p1", "Ada Holt", "Ada Holt was born in Port Aldin in 1901.")
LU = Passage("p2", "鲁迅", "鲁迅于1881年生于绍兴。")
ADA_FACTS = "<facts>\nDATE: 1901\nPLACE: Port Aldin\n</facts>"


def extractor(script: Any, **options: Any) -> ModelSpanExtractor:
    calls = CallSettings(patience_s=0.01, first_wait_s=0.001)
    return ModelSpanExtractor(model=ChatCaller(ScriptedChatModel(script=script), "m", calls), **options)


def by_passage(messages: Sequence[BaseMessage]) -> str:
    return ADA_FACTS if "Ada" in str(messages[1].text) else "<facts>PLACE: 绍兴\nDATE: 1881年</facts>"


def test_facts_become_spans_where_they_stand_in_order_and_in_any_language() -> None:
    found = list(extractor(by_passage, concurrency=2).extract([ADA, LU, ADA]))
    assert [passage.id for passage, _ in found] == ["p1", "p2", "p1"]
    for passage, spans in found:
        assert all(passage.text[span.start : span.end] == span.text for span in spans)
    assert [(span.text, span.label) for span in found[0][1]] == [("Port Aldin", "PLACE"), ("1901", "DATE")]
    assert [(span.text, span.label) for span in found[1][1]] == [("1881年", "DATE"), ("绍兴", "PLACE")]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("PERSON: Ada Holt", "there is no tag"),
        ("<facts>Ada Holt</facts>", "<facts>: String should match pattern"),
        ("<facts>[('DATE', '1901')]</facts>", "<facts>: String should match pattern"),
        ("<facts>DATE: 1902</facts>", "some lines of <facts> do not stand in the passage word for word"),
        ("<facts>DATE: 190</facts>", "some lines of <facts> do not stand in the passage word for word"),
        ("<facts>DATE: 1901\nPLACE: Port Aldin</facts>", "<facts> has more than 1 lines"),
    ],
)
def test_a_malformed_reply_is_mended_twice_and_then_counted(reply: str, reason: str) -> None:
    mended = extractor([reply, reply, "<facts>DATE: 1901</facts>"], max_facts=1)
    [(_, [span])] = mended.extract([ADA])
    assert (span.text, dict(mended.rejections)) == ("1901", {})
    rejected = extractor([reply], max_facts=1)
    assert list(rejected.extract([ADA])) == [(ADA, ())]
    [(said, count)] = rejected.rejections.items()
    assert said.startswith(f"spans reply malformed: {reason}")
    assert count == 1


def test_a_reply_without_facts_is_no_error() -> None:
    nothing = extractor(["<facts></facts>"])
    assert list(nothing.extract([ADA])) == [(ADA, ())]
    assert not nothing.rejections


def test_replies_are_kept_between_runs(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache.sqlite")
    first = list(extractor([ADA_FACTS], cache=cache).extract([ADA]))
    again = extractor(["nonsense"], cache=cache)
    assert list(again.extract([ADA])) == first


def test_a_server_that_keeps_failing_is_an_error_and_not_an_empty_passage() -> None:
    def down(messages: Any) -> str:
        raise ConnectionResetError(104, "reset")

    with pytest.raises(ServiceError):
        list(extractor(down).extract([ADA]))
