from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel
from fakes.tiny_models import forced_continuation, make_test_model
from fakes.vllm_server import FakeVLLMServer

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.runner import evaluate
from masksearch_agent.evaluation.three_shot import complete_prompt
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.models.vllm import VLLMChatModel
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.rows import make_rows

LONG = Passage("long", "Orly", " ".join(f"w{number}" for number in range(130)))
SOURCE = Passage("source", "Mill", "The old mill at Harrow was built by Ada in the year 1921 of stone.")
OTHER = Passage("other", "", "Ada was a\nbuilder.")
QUESTION = SearchTask("q", "qa", "Who built\nOrly?", (("Ada",),))
MASKED = SearchTask(
    "m",
    "ramp",
    "Mill: The old mill at Harrow was built by [mask] in the year [mask] of stone.",
    (("Ada",), ("1921",)),
    source_passage_id="source",
)


@pytest.fixture(scope="module")
def tiny_model(tiny_tokenizer: Any) -> Any:
    """Return a small model that reads a prompt of this length."""
    return make_test_model(tiny_tokenizer, max_positions=4096)


@pytest.fixture
def model(tiny_model: Any, tiny_tokenizer: Any) -> Iterator[LocalChatModel]:
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, temperature=0.9, model_version="v1")
    yield model
    model.close()


def make_agent(model: Any, limit: int = 2) -> MaskSearchAgent:
    table = {QUESTION.question.replace("\n", " "): [LONG, OTHER, SOURCE], MASKED.question: [SOURCE, OTHER]}
    return MaskSearchAgent(model, Search(TableBackend(table)), AgentSettings(passages_per_search=limit))


def says(model: Any, tokenizer: Any, *pieces: str) -> Any:
    """Make a model say pieces of one token each after `Answer:`."""
    ids = [tokenizer(piece)["input_ids"] for piece in ("Answer:", *pieces)]
    return forced_continuation(model, [ids[0][-1], *(piece[0] for piece in ids[1:])])


def test_three_examples_then_the_passages_then_the_question() -> None:
    lines = complete_prompt(QUESTION.question, [LONG, OTHER]).split("\n")
    starts = [line.split(":")[0] for line in lines if line]
    assert starts == [*["Passage", "Question", "Answer"] * 3, "Passage", "Passage", "Question", "Answer"]
    shown = LONG.text.split()[:120]
    assert lines[-4:] == [
        f"Passage: Orly: {' '.join(shown)}",
        "Passage: Ada was a builder.",
        "Question: Who built Orly?",
        "Answer:",
    ]


def test_the_model_goes_on_with_the_plain_text_and_its_first_line_is_the_answer(
    model: LocalChatModel, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    with says(tiny_model, tiny_tokenizer, " mayor", "\n", "Ada"):
        [result] = evaluate(make_agent(model), [QUESTION], mode="rag-3shot")
    prompt = complete_prompt(QUESTION.question, [LONG, OTHER])
    assert (result.answer, result.stop_reason, result.searches) == ("mayor", "answered", 0)
    assert result.trajectory is not None
    [turn] = result.trajectory.turns
    assert turn.context_ids == tuple(tiny_tokenizer(prompt)["input_ids"])
    assert tiny_tokenizer.decode(turn.sampled_ids).startswith(" mayor\nAda")
    assert (result.prompt_tokens, result.sampled_tokens) == (len(turn.context_ids), len(turn.sampled_ids))
    assert result.trajectory.retrieved == ((LONG, OTHER),)
    assert make_rows(result.trajectory) == []


def test_a_model_that_begins_with_a_line_break_has_answered_on_the_next_line(
    model: LocalChatModel, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    with says(tiny_model, tiny_tokenizer, "\n", " mayor"):
        [result] = evaluate(make_agent(model), [QUESTION], mode="rag-3shot")
    assert result.answer.startswith("mayor")


def test_it_is_greedy_and_ends_after_fourteen_tokens(model: LocalChatModel) -> None:
    results = [evaluate(make_agent(model), [QUESTION], mode="rag-3shot")[0] for _ in range(2)]
    turns = [result.trajectory.turns[0] for result in results if result.trajectory is not None]
    assert turns[0].sampled_ids == turns[1].sampled_ids
    assert len(turns[0].sampled_ids) <= 14
    assert turns[0].sampling is not None
    assert turns[0].sampling.temperature == 0


def test_each_mask_is_asked_for_and_the_source_is_withheld(
    model: LocalChatModel, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    with says(tiny_model, tiny_tokenizer, " mayor", "\n"):
        [result] = evaluate(make_agent(model), [MASKED], mode="rag-3shot")
    assert result.answer == "1. mayor\n2. mayor"
    assert result.trajectory is not None
    assert result.trajectory.retrieved == ((OTHER,),)
    asked = [turn.context[0].content.rsplit("Question: ")[-1] for turn in result.trajectory.turns]
    first, second = (text.removesuffix("\nAnswer:") for text in asked)
    assert first.endswith("Mill: The old mill at Harrow was built by [mask] in the year … of stone.")
    assert second.endswith("Mill: The old mill at Harrow was built by … in the year [mask] of stone.")


def test_a_served_model_is_sent_the_same_ids(tiny_model: Any, tiny_tokenizer: Any) -> None:
    server = FakeVLLMServer(tiny_model, tiny_tokenizer, ChatFormat(tiny_tokenizer).end_of_turn_id, 4096)
    served = VLLMChatModel(tokenizer=tiny_tokenizer, base_url="http://vllm", transport=server)
    with says(tiny_model, tiny_tokenizer, " mayor", "\n"):
        [result] = evaluate(make_agent(served), [QUESTION], mode="rag-3shot")
    served.close()
    server.engine.close()
    assert result.answer == "mayor"
    assert server.sent == [
        tuple(tiny_tokenizer(complete_prompt(QUESTION.question, [LONG, OTHER]))["input_ids"])
    ]


def test_a_model_that_takes_messages_only_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"ScriptedChatModel cannot.*rag-pe"):
        evaluate(make_agent(ScriptedChatModel(script=["x"])), [QUESTION], mode="rag-3shot")
