"""What an answer rests on: cited, quoted or found, with its place in the passage."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.chat_models import ScriptedChatModel, ScriptedRecordingModel
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from masksearch_agent.agent.citing import cite
from masksearch_agent.agent.marks import without_marks
from masksearch_agent.agent.prompts import CITE, FULL_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.cited_text import numbered_text
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.records import Citation, Passage, SearchAnswer

HARROW = Passage("h", "Harrow", "Harrow is a town. It was founded by Ada Low in 1901. Dr. Smith lives there.")
ADA = Passage("a", "Ada Low", "Ada Low was a founder.\nShe was born in\n  Paris.")
READ = [HARROW, ADA]
FOUNDED, BORN = "It was founded by Ada Low in 1901.", "She was born in\n  Paris."


def cited(answer: str, read: list[Passage] = READ) -> list[tuple[int, str, str]]:
    found = cite(answer, "Who founded Harrow?", (), read, reads_marks=True)
    for each in found.citations:
        assert found.answer[each.claim_start : each.claim_end] == each.claim
        assert each.passage.text[each.start : each.end] == each.quote
    return [(each.number, each.quote, each.claim) for each in found.citations if each.is_claimed]


@pytest.mark.parametrize(
    ("answer", "shown", "expected"),
    [
        ("Ada Low [1]", "Ada Low", [(1, FOUNDED, "Ada Low")]),
        ("Ada Low【1】.", "Ada Low.", [(1, FOUNDED, "Ada Low.")]),
        ("[1] Ada Low", "Ada Low", [(1, FOUNDED, "Ada Low")]),
        ("Ada Low[1](https://x.org/a) did.", "Ada Low did.", [(1, FOUNDED, "Ada Low did.")]),
        (
            "She founded it in 1901. [1] Paris is where she is from [2]. So.",
            "She founded it in 1901. Paris is where she is from. So.",
            [(1, FOUNDED, "She founded it in 1901."), (2, BORN, "Paris is where she is from.")],
        ),
        (
            "Ada Low of Paris [1, 2]",
            "Ada Low of Paris",
            [(1, FOUNDED, "Ada Low of Paris"), (2, "Ada Low was a founder.", "Ada Low of Paris")],
        ),
        ("Bern [1-2]", "Bern", [(1, "", "Bern"), (2, "", "Bern")]),
        ("the year [1901] of it [2]", "the year [1901] of it", []),
        ("x[i] is 3", "x[i] is 3", []),
        ("[3]", "[3]", []),
    ],
)
def test_a_number_behind_a_claim_cites_the_sentence_that_says_most_of_it(
    answer: str, shown: str, expected: list[tuple[int, str, str]]
) -> None:
    assert without_marks(answer) == shown
    if expected:
        assert cited(answer) == expected


def test_a_number_that_no_passage_has_is_counted_and_not_shown() -> None:
    found = cite("Ada Low [1][9], or Bo [0, 12-13].", "Who founded Harrow?", (), READ, reads_marks=True)
    assert (found.answer, found.unknown) == ("Ada Low, or Bo.", 4)
    assert [each.number for each in found.citations] == [1]


@pytest.mark.parametrize(
    "answer",
    [
        "Use `items[1]`.",
        "So:\n```python\nrows[1] = x [2]\n```",
        "Unclosed:\n```\nrows[1]",
        '{"ids": [1, 2], "rows": [[1], [2]]}',
        'It is {"ids": [1]} here',
        "ids: [1, 2]",
        "x = [1]",
        "f([1])",
        "in [0, 100]",
        "items[0]",
        "[1, 2, 3] and x in [0,1]",
        "[400-499]",
        "It is so.[^1]\n\n[^1]: Harrow",
        "Sources:\n[1] Harrow\n[2] Leith",
    ],
)
def test_numbers_that_are_part_of_what_is_said_stay_and_cite_nothing(answer: str) -> None:
    found = cite(answer, "Who founded Harrow?", (), READ, reads_marks=True)
    assert (found.answer, found.citations, found.unknown) == (answer, (), 0)
    assert without_marks(answer) == answer


def test_a_number_beside_one_that_is_data_still_cites() -> None:
    found = cite("In [0, 100] [1] by `a[1]` and Bo [8].", "Who?", (), READ, reads_marks=True)
    assert (found.answer, found.unknown) == ("In [0, 100] by `a[1]` and Bo.", 1)
    assert [each.number for each in found.citations] == [1]


def test_a_model_s_own_list_of_sources_behind_an_answer_goes_as_a_whole() -> None:
    answer = "Ada Low [1].\n\n**Sources:**\n[1] Harrow\n- [2] Leith\n"
    assert cited(answer) == [(1, FOUNDED, "Ada Low.")]
    assert without_marks(answer) == "Ada Low."


@pytest.mark.parametrize(
    ("answer", "shown", "claims"),
    [
        ("| Ada [1] | Harrow [2] |", "| Ada [1] | Harrow [2] |", ["Ada", "Harrow"]),
        ("| Ada | [1] |\n| Bo | [2] |", "| Ada | [1] |\n| Bo | [2] |", ["| Ada |", "| Bo |"]),
        ("| Ada | Harrow | [1]\n| Bo | x |", "| Ada | Harrow [1] |\n| Bo | x |", ["Harrow"]),
        ("|Who|Where|\n|-|-|\n|Ada[1]|Harrow|", "|Who|Where|\n|-|-|\n|Ada [1]|Harrow|", ["Ada"]),
        ("由阿达创立。 [1] Bram", "由阿达创立。 [1] Bram", ["由阿达创立。"]),
        ("由阿达创立。[1]Bram", "由阿达创立。 [1] Bram", ["由阿达创立。"]),
    ],
)
def test_numbers_go_back_to_where_they_stood(answer: str, shown: str, claims: list[str]) -> None:
    found = cite(answer, "Who founded Harrow?", (), READ, reads_marks=True)
    assert [each.claim for each in found.citations] == claims
    assert numbered_text(found.answer, found.citations) == shown


def test_what_a_thought_quotes_is_cited_with_its_place() -> None:
    text = (
        "One. She was born in the old harbour of Paris in the year 1870, they say, and left it soon. Three."
    )
    long = Passage("l", "Ada Low", text)
    thoughts = [
        '"Harrow" says: it was founded by ada low in 1901.',
        "“…born in the old harbour of Paris in the…”",
    ]
    found = cite("Paris", "Where was she born?", thoughts, [HARROW, long], reads_marks=False)
    assert [(each.number, each.quote, each.is_claimed) for each in found.citations] == [
        (1, FOUNDED, True),
        (2, text[5:-7], True),
    ]
    assert {(each.claim, each.claim_start, each.claim_end) for each in found.citations} == {("Paris", 0, 5)}


def test_a_bare_answer_gets_the_sentence_that_fits_the_question_best_marked_as_found() -> None:
    other = Passage("o", "Lists", "Ada Low and Bo Lund met. Ada Low is tall.")
    found = cite("Ada Low", "Who founded Harrow?", ["no quote"], [other, *READ], reads_marks=False)
    [only] = found.citations
    assert (only.number, only.quote, only.is_claimed) == (2, FOUNDED, False)


@pytest.mark.parametrize(
    ("answer", "question"),
    [("yes", "Was yes founded?"), ("Bern", "Who founded Harrow?"), ("Ada Low", "Quoi?"), ("", "Who?")],
)
def test_nothing_is_found_for_a_verdict_what_nobody_said_or_what_has_nothing_to_do_with_the_question(
    answer: str, question: str
) -> None:
    assert cite(answer, question, (), READ, reads_marks=False).citations == ()


def test_every_filled_mask_has_a_citation_of_its_own() -> None:
    found = cite("1. 1901\n2. Ada Low", "Harrow: founded in [mask] by [mask].", (), READ, reads_marks=False)
    assert [(each.claim, each.claim_start, each.quote) for each in found.citations] == [
        ("1901", 3, FOUNDED),
        ("Ada Low", 11, FOUNDED),
    ]


# --- runs --------------------------------------------------------------------------------------------------

DOCUMENTS = {
    "Harrow": [
        Document(HARROW.text, id="h", metadata={"title": "Harrow", "source": "towns.pdf", "page": 3}),
        Document("Bo is a town.", id="b", metadata={"title": "Bo"}),
    ],
    "Ada Low": [
        Document("Ada Low was born in Paris.", id="a", metadata={"title": "Ada", "url": "https://x.org/a"}),
        Document(HARROW.text, id="h", metadata={"title": "Harrow", "source": "towns.pdf", "page": 3}),
    ],
}
SHOWN = [
    f"[1] Harrow: {HARROW.text}\n[2] Bo: Bo is a town.",
    f"[3] Ada: Ada Low was born in Paris.\n[1] Harrow: {HARROW.text}",
]


def call(*queries: str) -> AIMessage:
    arguments = {"queries": list(queries)}
    return AIMessage("", tool_calls=[{"name": "search", "args": arguments, "id": queries[0]}])


def api_agent(answer: str, **parts: Any) -> MaskSearchAgent:
    script = [call("Harrow"), call("Ada Low"), AIMessage(answer)]
    settings = AgentSettings(dialect="tools")

    class Model(ScriptedChatModel):
        def bind_tools(self, tools: Any, **_: Any) -> Any:
            return self

    return MaskSearchAgent(
        Model(script=script), RunnableLambda(DOCUMENTS.__getitem__).invoke, settings, **parts
    )


def informations(messages: list[BaseMessage]) -> list[str]:
    texts = [str(message.text) for message in messages if isinstance(message, HumanMessage | ToolMessage)]
    return [text.removeprefix("<information>\n").removesuffix("\n</information>") for text in texts[1:]]


def test_an_api_model_cites_by_numbers_that_go_on_through_its_run() -> None:
    agent = api_agent("It was Ada Low [1]. She came from Paris [3][8].")
    answer = agent.invoke("Who founded Harrow?")
    assert informations(agent.model.calls[-1]) == SHOWN
    assert CITE.strip() in str(agent.model.calls[0][0].text)
    assert (answer.answer, answer.unknown_citations) == ("It was Ada Low. She came from Paris.", 1)
    first, second = answer.citations
    assert (first.number, first.quote, first.claim) == (1, FOUNDED, "It was Ada Low.")
    assert first.passage.metadata == {"title": "Harrow", "source": "towns.pdf", "page": 3}
    assert (second.number, second.quote) == (3, "Ada Low was born in Paris.")
    assert second.passage.metadata["url"] == "https://x.org/a"
    assert [passage.document_id for passage in answer.sources] == ["h", "a"]
    assert [passage.document_id for passage in answer.retrieved] == ["h", "b", "a"]


def test_text_and_tool_and_closing_message_hold_the_answer_with_links() -> None:
    expected = (
        "It was Ada Low. [1] She came from Paris. [3]\n\n"
        f"[1] Harrow (towns.pdf, page 3): “{FOUNDED}”\n"
        "[3] [Ada](https://x.org/a): “Ada Low was born in Paris.”"
    )
    given = "It was Ada Low [1]. She came from Paris [3][8]."
    assert api_agent(given).invoke("Who founded Harrow?").text == expected
    tool = api_agent(given).as_tool(name="research", description="Asks.")
    said = tool.invoke({"type": "tool_call", "id": "1", "name": "research", "args": {"question": "Who?"}})
    assert said.content == expected
    assert isinstance(said.artifact, SearchAnswer)
    state = api_agent(given).graph.invoke({"question": "Who founded Harrow?"})
    assert state["messages"][-1].text == expected
    told = state["structured_response"]
    assert (told["answer"], told["sources"]) == ("It was Ada Low. She came from Paris.", ["Harrow", "Ada"])
    assert told["citations"][0] == {
        "number": 1,
        "title": "Harrow",
        "source": "towns.pdf",
        "metadata": {"title": "Harrow", "source": "towns.pdf", "page": 3},
        "quote": FOUNDED,
        "claim": "It was Ada Low.",
        "is_claimed": True,
    }


def test_what_is_recorded_of_a_model_that_cites_could_train_one_that_does_not() -> None:
    trajectory = api_agent("Ada Low [1].").invoke("Who founded Harrow?").trajectory
    assert trajectory is not None
    assert trajectory.turns[0].context[0].content == FULL_PROMPTS.question_system
    assert trajectory.turns[-1].text == "<think></think><answer> Ada Low.</answer>"
    assert trajectory.answer == "Ada Low."


def test_a_model_in_tags_cites_too_and_a_recorded_one_counts_each_search_afresh() -> None:
    script = [
        "<think></think><search>Harrow</search>",
        "<think></think><search>Ada Low</search>",
        "<think></think><answer>Paris [3]</answer>",
    ]
    search = RunnableLambda(DOCUMENTS.__getitem__).invoke
    agent = MaskSearchAgent(ScriptedChatModel(script=script), search)
    answer = agent.invoke("Where was Ada Low born?")
    assert informations(agent.model.calls[-1]) == SHOWN
    assert (answer.answer, [each.number for each in answer.citations]) == ("Paris", [3])
    recorded = MaskSearchAgent(ScriptedRecordingModel(script=script), search)
    answer = recorded.invoke("Where was Ada Low born?")
    assert answer.trajectory is not None
    shown = [turn.context[-1].content for turn in answer.trajectory.turns[1:]]
    assert [text.split("\n")[1][:3] for text in shown] == ["[1]", "[1]"]
    assert CITE not in answer.trajectory.turns[0].context[0].content
    assert answer.answer == "Paris [3]"


def test_a_recorded_model_may_be_set_to_count_through_its_run() -> None:
    script = ["<think></think><search>Harrow</search>", "<think></think><search>Ada Low</search>", "x"]
    settings = AgentSettings(passage_numbers="run", max_repairs=0)
    agent = MaskSearchAgent(
        ScriptedRecordingModel(script=script),
        RunnableLambda(DOCUMENTS.__getitem__).invoke,
        settings,
        FULL_PROMPTS,
    )
    trajectory = agent.invoke("q").trajectory
    assert trajectory is not None
    assert informations([HumanMessage(turn.context[-1].content) for turn in trajectory.turns]) == SHOWN


def test_numbers_go_on_through_a_conversation() -> None:
    script = [call("Harrow"), AIMessage("Ada Low [1]"), call("Ada Low"), AIMessage("Paris [3], see [1]")]
    agent = api_agent("", checkpointer=InMemorySaver())
    agent.model.script = script
    config: Any = {"configurable": {"thread_id": "t"}}
    assert [each.number for each in agent.invoke("Who founded Harrow?", config).citations] == [1]
    answer = agent.invoke("Where was she born?", config)
    assert [text for text in informations(agent.model.calls[-1]) if text.startswith("[")] == SHOWN
    assert [(each.number, each.passage.document_id) for each in answer.citations] == [(3, "a"), (1, "h")]
    assert [passage.document_id for passage in answer.retrieved] == ["a", "h"]


@pytest.mark.parametrize(
    "is_marked", [True, False], ids=["a parent's messages", "a history of the application's"]
)
def test_numbers_of_an_earlier_answer_are_not_taken_for_passages_of_this_run(is_marked: bool) -> None:
    def answer(messages: list[BaseMessage]) -> str:
        if not messages[-1].text.startswith("<information>"):
            return "<think>a</think><search>b</search>"
        earlier = [
            message.text for message in messages[1:] if message.type == "ai" and "<" not in message.text
        ]
        return f"<think>a</think><answer>{earlier[-1] if earlier else 'Ada [1].'}</answer>"

    found = iter(["Ada founded Harrow.", "Bram sold ropes."])
    agent = MaskSearchAgent(ScriptedChatModel(script=answer), lambda query: [next(found)])
    graph = StateGraph(MessagesState)
    graph.add_node("research", agent.graph)
    graph.add_edge(START, "research")
    messages = graph.compile().invoke({"messages": [HumanMessage("Who?")]})["messages"]
    assert messages[-1].text == "Ada. [1]\n\n[1] “Ada founded Harrow.”"
    if not is_marked:
        messages = [(message.type, message.text) for message in messages]
    second = agent.invoke([*messages, ("human", "Really?")])
    assert [message.text for message in agent.model.calls[-1]][1:4] == ["Who?", "Ada.", "Really?"]
    assert (second.answer, second.citations) == ("Ada.", ())


def test_an_answer_with_citations_survives_a_checkpointer() -> None:
    agent = api_agent("Ada Low [1]")

    class State(MessagesState):
        found: SearchAnswer

    builder = StateGraph(State)
    builder.add_node("ask", lambda _: {"found": agent.invoke("Who founded Harrow?")})
    builder.add_edge(START, "ask")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    given = graph.invoke({"messages": []}, config)["found"]
    kept = graph.get_state(config).values["found"]
    assert kept == given
    assert isinstance(kept.citations[0], Citation)
    assert kept.citations[0].passage.metadata["page"] == 3
    assert kept.text == given.text
