from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest
from fakes.overlap_backend import OverlapBackend
from fakes.spans import find_span

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.ramp import tasks
from masksearch_agent.ramp.lexicon.glossary import Glossary
from masksearch_agent.ramp.spans import Span
from masksearch_agent.ramp.tasks import RampReport, build_ramp_tasks, build_task
from masksearch_agent.records import Hop, Passage, ScoredPassage, SearchTask
from masksearch_agent.retrieval.search import Search
from masksearch_agent.text.matching import answer_exact

TEXT = "Velling Works was founded in 1923 by Ann Bo in the harbour town of Orly."
SOURCE = Passage("source", "Velling Works", TEXT)
COPY = Passage("copy", "Velling Works (mirror)", TEXT + " See also the list of companies.")
BIOGRAPHY = Passage("bio", "Ann Bo", "The engineer Ann Bo, who started Velling Works, was born in 1880.")
TOWN = Passage("town", "Orly", "Orly is a harbour town. Velling Works has its seat there.")
SETTINGS = RampSettings(
    mask_count_weights=(0, 0, 1, 1), min_passage_words=5, answerability_depth=5, support_overlap=0
)


span_of = partial(find_span, TEXT)
SPANS = (span_of("1923"), span_of("Ann Bo"), span_of("Orly"))


def test_a_task_shows_the_masked_passage_under_its_title() -> None:
    hops = (Hop("year", "q", "1923"), Hop("founder", "q", "Ann Bo"))
    task = build_task(SOURCE, SPANS[:2], hops, split="test")
    assert (
        task.question
        == "Velling Works: Velling Works was founded in [mask] by [mask] in the harbour town of Orly."
    )
    assert task.answers == (("1923",), ("Ann Bo",))
    assert (task.kind, task.category, task.split) == ("ramp", "ramp", "test")
    assert task.source_passage_id == "source"
    assert task.hops == hops


def test_a_task_is_solved_by_its_own_source_text() -> None:
    assert answer_exact(build_task(SOURCE, SPANS), TEXT) == 1.0


def test_the_id_depends_on_what_is_masked() -> None:
    assert build_task(SOURCE, SPANS).id == build_task(SOURCE, SPANS).id
    assert (
        len({build_task(SOURCE, SPANS).id, build_task(SOURCE, SPANS[:1]).id, build_task(COPY, SPANS).id}) == 3
    )


def test_a_passage_without_title_is_its_own_question() -> None:
    assert build_task(Passage("p", "", TEXT), SPANS[:1]).question == TEXT.replace("1923", "[mask]")


def test_masks_that_only_the_source_and_its_copy_answer_are_not_kept() -> None:
    report = RampReport()
    search = Search(OverlapBackend([SOURCE, COPY, BIOGRAPHY, TOWN]))
    settings = RampSettings(mask_count_weights=(1, 1, 1, 1), min_passage_words=5, support_overlap=0)
    tasks = list(build_ramp_tasks([(SOURCE, SPANS)], search, settings, report=report))
    assert all(("1923",) not in task.answers for task in tasks)
    assert report.spans_answerable == 2


def test_a_task_names_the_passages_that_support_it() -> None:
    search = Search(OverlapBackend([SOURCE, COPY, BIOGRAPHY, TOWN]))
    settings = RampSettings(mask_count_weights=(0, 1, 0, 0), min_passage_words=5, support_overlap=0)
    (task,) = build_ramp_tasks([(SOURCE, SPANS)], search, settings)
    assert task.answers == (("Ann Bo",), ("Orly",))
    assert task.gold_passage_ids == ("bio", "town")


def test_a_mask_that_needs_another_masked_word_to_be_found_is_given_up() -> None:
    # Alone, "Ann Bo" is found through "Orly"; with both masked nothing leads to her any more.
    knows_ann = Passage("a", "Seaside life", "Orly knew Ann Bo.")
    knows_orly = Passage("b", "Harbour towns", "A harbour town founded early is Orly.")
    found_by_query = {
        "Velling Works founded 1923 harbour town Orly": knows_ann,
        "Velling Works founded 1923 Ann Bo harbour town": knows_orly,
        "Velling Works founded 1923 harbour town": knows_orly,
    }
    backend = _PlannedBackend(found_by_query)
    settings = RampSettings(mask_count_weights=(0, 1, 0, 0), min_passage_words=5, support_overlap=0)
    (task,) = build_ramp_tasks([(SOURCE, SPANS[1:])], Search(backend), settings)
    assert set(backend.queries) == set(found_by_query)
    assert task.answers == (("Orly",),)
    assert "Ann Bo" in task.question
    assert task.gold_passage_ids == ("b",)


class _ListedBackend(OverlapBackend):
    """Says what it ranks, as an index does."""

    @property
    def searched_passages(self) -> tuple[Passage, ...]:
        return self.passages


def test_what_no_other_passage_holds_is_not_looked_up_and_the_outcome_is_the_same() -> None:
    settings = RampSettings(mask_count_weights=(1, 1, 1, 1), min_passage_words=5, support_overlap=0)
    outcomes, queries = [], []
    for kind in (OverlapBackend, _ListedBackend):
        backend, report = kind([SOURCE, BIOGRAPHY, TOWN]), RampReport()
        tasks = list(build_ramp_tasks([(SOURCE, SPANS)], Search(backend), settings, report=report))
        outcomes.append((tasks, report))
        queries.append({query for query in backend.queries if "harbour" in query})
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1].spans_answerable == 2
    # The query for 1923, which only the source holds, is the one with both names.
    assert queries[0] - queries[1] == {"Velling Works founded Ann Bo harbour town Orly"}


class _PlannedBackend(OverlapBackend):
    """Finds one given passage per query."""

    def __init__(self, found: dict[str, Passage]) -> None:
        super().__init__(list(found.values()))
        self._found = found

    def _rank(self, query: str) -> list[ScoredPassage]:
        return [hit for hit in super()._rank(query) if hit.passage == self._found.get(query)]


class _PickyBackend(OverlapBackend):
    """Cannot take some queries."""

    def _rank(self, query: str) -> list[ScoredPassage]:
        if "Odd" in query:
            raise ValueError("cannot parse the query")
        return super()._rank(query)


def test_a_query_that_breaks_the_search_costs_its_passage() -> None:
    odd = Passage("odd", "Odd Works", TEXT.replace("Velling", "Odd"))
    spans = tuple(find_span(odd.text, word) for word in ("1923", "Ann Bo", "Orly"))
    report = RampReport()
    search = Search(_PickyBackend([SOURCE, COPY, BIOGRAPHY, TOWN]))
    settings = SETTINGS.model_copy(update={"mask_count_weights": (1, 0, 0, 0), "drop_near_copies": False})
    [task] = build_ramp_tasks([(odd, spans), (SOURCE, SPANS)], search, settings, report=report)
    assert (task.source_passage_id, report.failures) == ("source", {"ValueError: cannot parse the query": 1})


def test_without_search_every_candidate_is_kept() -> None:
    report = RampReport()
    (task,) = build_ramp_tasks([(SOURCE, SPANS)], None, SETTINGS, report=report)
    assert task.mask_count == 3
    assert (task.gold_passage_ids, report.kept_fraction) == ((), 1.0)


def test_the_report_accounts_for_every_passage() -> None:
    report = RampReport()
    unanswerable = Passage("lone", "Lone hill", "It is a hill that Cy Do climbed on foot in 1955.")
    stream = [
        (SOURCE, SPANS),
        (Passage("short", "t", "Too short."), ()),
        (Passage("plain", "t", "There is nothing to be masked in this."), ()),
        (unanswerable, (find_span(unanswerable.text, "Cy Do"), find_span(unanswerable.text, "1955"))),
    ]
    search = Search(OverlapBackend([SOURCE, BIOGRAPHY, TOWN, unanswerable]))
    settings = RampSettings(mask_count_weights=(0, 1, 0, 0), min_passage_words=5, support_overlap=0)
    assert len(list(build_ramp_tasks(stream, search, settings, report=report))) == 1
    assert report.passages_read == 4
    assert report.spans_found == 5
    assert report.drops == {"short_passage": 1, "no_spans": 1, "unanswerable": 1}
    assert report.candidates == 2
    assert report.kept_by_mask_count == {2: 1}
    assert (report.tasks_kept, report.kept_fraction) == (1, 0.5)


@pytest.mark.parametrize("rule", ["passage_flaw", "choose_spans"])
def test_a_passage_that_breaks_a_rule_costs_that_passage(monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    sound = getattr(tasks, rule)

    def break_for_one(passage: Passage, *rest: object) -> object:
        if passage.id == "odd":
            raise IndexError("list index out of range")
        return sound(passage, *rest)

    monkeypatch.setattr(tasks, rule, break_for_one)
    report = RampReport()
    stream = [(dataclasses.replace(SOURCE, id=name), SPANS) for name in ("odd", "even")]
    settings = SETTINGS.model_copy(update={"drop_near_copies": False})
    [task] = build_ramp_tasks(stream, None, settings, report=report)
    assert (task.source_passage_id, report.passages_read) == ("even", 2)
    assert report.failures == {"IndexError: list index out of range": 1}
    monkeypatch.setattr(tasks, rule, lambda passage, *rest: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        list(build_ramp_tasks(stream, None, settings))


def test_tasks_do_not_depend_on_the_order_of_the_passages() -> None:
    stream = [(Passage(f"p{index}", "Velling Works", TEXT), SPANS) for index in range(12)]
    settings = RampSettings(min_passage_words=5, drop_near_copies=False)
    forward = {task.id for task in build_ramp_tasks(stream, None, settings)}
    backward = {task.id for task in build_ramp_tasks(stream[::-1], None, settings)}
    assert forward == backward
    assert len(forward) == 12


ASKED = tuple(
    dataclasses.replace(span, question=question)
    for span, question in zip(
        SPANS,
        (
            "In what year was Velling Works founded by Ann Bo in the harbour town of Orly?",
            "Who founded Velling Works in Orly?",
            "In which harbour town does Velling Works have its seat?",
        ),
        strict=True,
    )
)


def test_a_share_of_the_passages_is_asked_as_questions() -> None:
    sources = [(Passage(f"p{number}", "Velling Works", TEXT), ASKED) for number in range(40)]

    def kinds(share: float, seed: int = 0) -> list[str]:
        settings = RampSettings(cloze_questions=share, drop_near_copies=False, seed=seed)
        return [task.category for task in build_ramp_tasks(sources, None, settings)]

    assert set(kinds(0.0)) == {"ramp"}
    assert set(kinds(1.0)) == {"cloze"}
    assert 10 < kinds(0.5).count("cloze") < 30
    assert kinds(0.5) == kinds(0.5) != kinds(0.5, seed=1)


def test_a_passage_that_cannot_be_asked_is_masked_or_dropped() -> None:
    report = RampReport()
    settings = SETTINGS.model_copy(update={"cloze_questions": 1.0})
    assert [task.category for task in build_ramp_tasks([(SOURCE, SPANS)], None, settings)] == ["ramp"]
    settings = settings.model_copy(update={"unasked": "drop"})
    assert not list(build_ramp_tasks([(SOURCE, SPANS)], None, settings, report=report))
    assert report.drops["unasked"] == 1


def test_an_open_question_needs_no_second_passage_and_a_closed_one_does() -> None:
    search = Search(OverlapBackend([SOURCE, COPY, TOWN]))
    report = RampReport()

    def ask(open_share: float) -> list[SearchTask]:
        settings = RampSettings(
            cloze_questions=1.0,
            open_share=open_share,
            unasked="drop",
            min_passage_words=5,
            support_overlap=0.6,
        )
        return list(build_ramp_tasks([(SOURCE, ASKED)], search, settings, report=report))

    (task,) = ask(1.0)
    assert task.is_open
    assert task.gold_passage_ids == ("source",)
    assert report.open_questions == 1
    (task,) = ask(0.0)
    assert not task.is_open
    # The town's page says where; no other passage says when or who.
    assert (task.answers, task.gold_passage_ids) == ((("Orly",),), ("town",))
    assert report.kept_by_mask_count[0] == 2


def test_a_question_that_two_passages_answer_is_not_asked() -> None:
    question = "Which function closes the valve of the old boiler in the cellar?"
    text = "turn_wheel(hand) closes the valve of the old boiler in the cellar and is never used."
    source = Passage("wheel", "Boilers", text)
    span = dataclasses.replace(find_span(text, "turn_wheel"), question=question)
    settings = RampSettings(cloze_questions=1.0, open_share=1.0, unasked="drop", min_passage_words=5)

    def asked(*others: Passage) -> int:
        search = Search(OverlapBackend([source, *others]))
        return len(list(build_ramp_tasks([(source, [span])], search, settings)))

    other = Passage("lever", "Levers", text.replace("turn_wheel", "pull_lever"))
    assert asked(other) == 0
    assert asked(dataclasses.replace(other, text=text.replace("never", "seldom"))) == 1
    assert asked(dataclasses.replace(other, text=other.text.replace("old", "new"))) == 1
    named = dataclasses.replace(
        span, question=question.replace("Which function", "Which function of Otto Weber")
    )
    search = Search(OverlapBackend([source, other]))
    assert len(list(build_ramp_tasks([(source, [named])], search, settings))) == 1


def test_what_is_said_of_something_else_is_no_support() -> None:
    other = Passage(
        "other", "Hale Mills", "Hale Mills was founded in 1923 by Cy Do in the harbour town of Ewe."
    )
    settings = RampSettings(mask_count_weights=(1, 0, 0, 0), min_passage_words=5)
    search = Search(OverlapBackend([SOURCE, other]))
    assert not list(build_ramp_tasks([(SOURCE, SPANS[:1])], search, settings))
    same = dataclasses.replace(
        other, text="Velling Works, a mill in the town of Orly, is of 1923, as Ann Bo says."
    )
    search = Search(OverlapBackend([SOURCE, same]))
    assert len(list(build_ramp_tasks([(SOURCE, SPANS[:1])], search, settings))) == 1


def test_an_answer_in_another_sentence_than_what_it_answers_is_no_support() -> None:
    told = "Velling Works of Ann Bo was founded in the harbour town of Orly"
    settings = RampSettings(mask_count_weights=(1, 0, 0, 0), min_passage_words=5)

    def kept(between: str) -> int:
        list_page = Passage("list", "Years", f"{told} {between} 1923.")
        search = Search(OverlapBackend([SOURCE, list_page]))
        return len(list(build_ramp_tasks([(SOURCE, SPANS[:1])], search, settings)))

    assert kept("in") == 1
    assert kept("by the sea. It is of") == 0


def test_a_question_may_be_in_the_title_or_said_twice_and_a_mask_may_not() -> None:
    text = "Velling Works makes wool. Ann Bo founded Velling Works in 1923 in the town of Orly."
    title = dataclasses.replace(
        find_span(text, "Velling Works", occurrence=1), question="What did Ann Bo found in Orly in 1923?"
    )
    settings = RampSettings(cloze_questions=1.0, min_passage_words=5)
    passage = Passage("p", "Velling Works", text)
    (task,) = build_ramp_tasks([(passage, (title,))], None, settings)
    assert task.answers == (("Velling Works",),)
    masked = settings.model_copy(update={"cloze_questions": 0.0})
    assert not list(build_ramp_tasks([(passage, (title,))], None, masked))


def test_building_streams() -> None:
    def stream() -> Iterator[tuple[Passage, tuple[Span, ...]]]:
        yield SOURCE, SPANS
        pytest.fail("read ahead")

    assert next(build_ramp_tasks(stream(), None, SETTINGS)).source_passage_id == "source"


def test_a_passage_that_breaks_the_glossary_is_counted_once_and_costs_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = Glossary._read

    def broken(self: Glossary, passage: Passage, kinds: dict[str, Counter[str]]) -> None:
        if passage.id in ("source", "bio"):
            raise ValueError("it breaks")
        read(self, passage, kinds)

    monkeypatch.setattr(Glossary, "_read", broken)
    report = RampReport()
    settings = SETTINGS.model_copy(update={"spans": "terms"})
    assert settings.needs_glossary
    backend = OverlapBackend([SOURCE, BIOGRAPHY, TOWN])
    backend.searched_passages = backend.passages
    search = Search(backend)
    made = list(build_ramp_tasks([(SOURCE, SPANS), (TOWN, ())], search, settings, report=report))
    # `bio` is none of the passages that were to be masked.
    assert (made, report.passages_read, report.failures) == ([], 2, {"ValueError: it breaks": 1})
