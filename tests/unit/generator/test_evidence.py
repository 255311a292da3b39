"""Trajectories for questions whose evidence is known."""

from __future__ import annotations

import pytest
from fakes.retrievers import DictRetriever

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.concurrency import run_many
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.generator.evidence import MAX_QUOTE_WORDS, as_query, clip_quote
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.records import Evidence, Hop, SearchTask, Trajectory
from masksearch_agent.retrieval.adapters import as_search

QUESTION = "Where was the director of Grey Harbour born?"
FILM = "Grey Harbour: A long film. Grey Harbour was directed by Mara Lind."
PERSON = "Mara Lind: Mara Lind was born in Tresk. She painted."
OTHER = "Tresk: Tresk is a port."
BRIDGE = SearchTask(
    id="bridge",
    kind="qa",
    question=QUESTION,
    answers=(("Tresk",),),
    evidence=(
        Evidence("Grey Harbour", "Grey Harbour was directed by Mara Lind."),
        Evidence("Mara Lind", "Mara Lind was born in Tresk."),
    ),
)


def test_what_a_cut_passage_does_not_show_is_not_quoted() -> None:
    settings = AgentSettings(search_first=True, repeat_passages=False, max_queries=1, max_passage_words=3)
    search = as_search(DictRetriever(entries={QUESTION: [PERSON]}))
    generator = TrajectoryGenerator(search, COMPACT_PROMPTS, settings, GeneratorSettings(max_rounds=2))
    task = SearchTask("one", "qa", QUESTION, (("Tresk",),), evidence=(BRIDGE.evidence[1],))
    trajectory = run_many(generator.run_task(task))
    assert not trajectory.accepted
    assert trajectory.retrieved[0][0].text == "Mara Lind was"


def teach(
    task: SearchTask,
    entries: dict[str, list[str]],
    quotes: bool = True,
    rounds: int = 2,
) -> Trajectory:
    """Return the teacher's trajectory over a search that knows these queries only."""
    agent = AgentSettings(search_first=True, repeat_passages=False, passages_per_search=2, max_queries=1)
    search = as_search(DictRetriever(entries=entries))
    settings = GeneratorSettings(max_rounds=rounds, quote_support=quotes)
    return run_many(TrajectoryGenerator(search, COMPACT_PROMPTS, agent, settings).run_task(task))


def texts(trajectory: Trajectory) -> list[str]:
    return [turn.text for turn in trajectory.turns]


def test_the_missing_passage_is_searched_for_by_its_title_and_both_are_quoted() -> None:
    trajectory = teach(BRIDGE, {QUESTION: [FILM, OTHER], "Mara Lind": [FILM, PERSON]})
    assert texts(trajectory) == [
        '<think> "Grey Harbour" says: Grey Harbour was directed by Mara Lind.</think><search> Mara Lind</search>',
        '<think> "Mara Lind" says: Mara Lind was born in Tresk.</think><answer> Tresk</answer>',
    ]
    assert trajectory.accepted
    assert trajectory.queries == ((QUESTION,), ("Mara Lind",))


def test_without_quotes_thoughts_are_empty() -> None:
    trajectory = teach(BRIDGE, {QUESTION: [FILM, OTHER], "Mara Lind": [FILM, PERSON]}, quotes=False)
    assert texts(trajectory) == [
        "<think></think><search> Mara Lind</search>",
        "<think></think><answer> Tresk</answer>",
    ]
    assert trajectory.accepted


def test_the_opening_results_stand_with_the_question_and_are_not_shown_again() -> None:
    trajectory = teach(BRIDGE, {QUESTION: [FILM, OTHER], "Mara Lind": [FILM, PERSON]})
    opening, later = (turn.context[-1].content for turn in trajectory.turns)
    assert opening.startswith(f"{QUESTION}\n<information>\n[1] Grey Harbour: ")
    assert later == "<information>\n[1] Mara Lind: Mara Lind was born in Tresk. She painted.\n</information>"


def test_a_question_over_two_passages_takes_two_searches_where_the_first_found_both() -> None:
    trajectory = teach(BRIDGE, {QUESTION: [FILM, PERSON], "Mara Lind": [PERSON, OTHER]})
    assert list(trajectory.queries) == [(QUESTION,), ("Mara Lind",)]
    assert texts(trajectory)[-1].endswith("<answer> Tresk</answer>")


def test_one_passage_is_enough_for_a_question_about_one() -> None:
    task = SearchTask("one", "qa", QUESTION, (("Tresk",),), evidence=(BRIDGE.evidence[1],))
    trajectory = teach(task, {QUESTION: [PERSON]})
    [step] = texts(trajectory)
    assert step == '<think> "Mara Lind" says: Mara Lind was born in Tresk.</think><answer> Tresk</answer>'


def test_a_passage_whose_end_tells_the_answer_is_not_enough_without_it() -> None:
    task = SearchTask("whole", "qa", QUESTION, (("Tresk",),), evidence=(Evidence("Mara Lind", PERSON[11:]),))
    trajectory = teach(task, {QUESTION: ["Mara Lind: She painted."], "Mara Lind": [OTHER]})
    assert (trajectory.accepted, trajectory.answer) == (False, "")


def test_a_title_that_nothing_names_is_not_searched_for() -> None:
    vague = SearchTask("vague", "qa", "Where was the director born?", (("Tresk",),), evidence=BRIDGE.evidence)
    trajectory = teach(vague, {vague.question: [OTHER], "Grey Harbour": [FILM], "Mara Lind": [PERSON]})
    assert trajectory.queries == ((vague.question,),)
    assert not trajectory.accepted


def test_a_comparison_is_answered_once_both_were_read() -> None:
    task = SearchTask(
        "both",
        "qa",
        "Are Tresk and Orrin both ports?",
        (("no",),),
        evidence=(Evidence("Tresk", "Tresk is a port."), Evidence("Orrin (hill)", "Orrin is a hill.")),
    )
    trajectory = teach(
        task, {task.question: [OTHER], "Orrin": ["Orrin (hill): Orrin is a hill. It is green."]}
    )
    assert trajectory.queries == ((task.question,), ("Orrin",))
    assert (
        texts(trajectory)[-1] == '<think> "Orrin (hill)" says: Orrin is a hill.</think><answer> no</answer>'
    )
    assert trajectory.accepted


@pytest.mark.parametrize("answer", ["Tresk", "Orrin"])
def test_what_a_comparison_searches_for_does_not_tell_its_answer(answer: str) -> None:
    port, hill = "Tresk: Tresk is a port.", "Orrin: Orrin is a hill."
    task = SearchTask(
        "which",
        "qa",
        "Which is older, Tresk or Orrin?",
        ((answer,),),
        evidence=(Evidence("Tresk", "Tresk is a port."), Evidence("Orrin", "Orrin is a hill.")),
    )
    trajectory = teach(task, {task.question: [port, hill], "Orrin": [hill], "Tresk": [port]}, quotes=False)
    assert trajectory.queries == ((task.question,), ("Orrin",))
    assert trajectory.answer == answer
    assert trajectory.accepted


def test_a_comparison_of_what_two_other_passages_tell_reads_all_four() -> None:
    question = "Which film has the director who died first, Grey Harbour or Red Tide?"
    facts = (
        *("the director of Grey Harbour", "Mara Lind", "the director of Red Tide", "Olof Berg"),
        *("the date of death of Mara Lind", "9 May 1970", "the date of death of Olof Berg", "2 June 1961"),
    )
    passages = {
        "Grey Harbour": "Grey Harbour was directed by Mara Lind.",
        "Red Tide (film)": "Red Tide was directed by Olof Berg.",
        "Mara Lind": "Mara Lind died on 9 May 1970.",
        "Olof Berg": "Olof Berg died on 2 June 1961.",
    }
    task = SearchTask(
        id="four",
        kind="qa",
        question=question,
        answers=(("Red Tide",),),
        hops=tuple(Hop(need, need, answer) for need, answer in zip(facts[::2], facts[1::2], strict=True)),
        evidence=tuple(Evidence(title, text) for title, text in passages.items()),
    )
    found = {title: [f"{title}: {text}"] for title, text in passages.items()}
    entries = {question: found["Grey Harbour"] + found["Red Tide (film)"], **found}
    trajectory = teach(task, entries, quotes=False, rounds=3)
    assert trajectory.queries == ((question,), ("Mara Lind",), ("Olof Berg",))
    assert trajectory.answer == "Red Tide"
    assert trajectory.accepted
    # The first passages name the answer, and do not tell that it is one.
    assert not teach(task, entries, quotes=False, rounds=2).accepted


def test_an_answer_without_all_of_its_evidence_is_not_grounded() -> None:
    task = SearchTask(
        "half",
        "qa",
        "Are Tresk and Orrin both ports?",
        (("no",),),
        evidence=(Evidence("Tresk", "Tresk is a port."), Evidence("Orrin", "Orrin is a hill.")),
    )
    assert not teach(task, {task.question: [OTHER], "Orrin": [FILM]}).accepted


def test_a_query_is_the_title_without_what_sets_it_apart() -> None:
    assert as_query("Orrin (hill)") == "Orrin"
    assert as_query("(hill)") == "(hill)"


@pytest.mark.parametrize("place", [0, 20, 49])
def test_a_long_sentence_is_clipped_around_what_is_sought(place: int) -> None:
    words = [f"w{number}" for number in range(50)]
    words[place] = "Tresk"
    quote = clip_quote(" ".join(words), ["Tresk"]).split()
    assert "Tresk" in quote
    assert len(quote) == MAX_QUOTE_WORDS
