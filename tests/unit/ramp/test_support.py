from __future__ import annotations

import dataclasses

import pytest

from masksearch_agent.ramp.support import supports
from masksearch_agent.records import Hop, Passage

SOURCE = Passage("s", "CREATE INDEX", "A regular CREATE INDEX command can run within a transaction block.")
HOP = Hop("", "CREATE INDEX regular command can run within", "transaction block")


@pytest.mark.parametrize(
    ("title", "text", "is_support"),
    [
        ("Indexes", "A regular CREATE INDEX command may run within a transaction block.", True),
        ("CREATE INDEX", "The regular command may be run within a transaction block.", True),
        # A sibling has another name.
        ("REINDEX", "A regular REINDEX command can run within a transaction block.", False),
        # The words, in two sentences.
        ("CREATE INDEX", "A regular command can run. There is a transaction block of it.", False),
        ("CREATE INDEX within a transaction block", "Other forms are told of elsewhere in here.", False),
        ("CREATE INDEX", "regular command within a transaction block\n\nNothing else.", False),
    ],
)
def test_one_sentence_has_to_say_it_of_the_same_thing(title: str, text: str, is_support: bool) -> None:
    assert supports(Passage("f", title, text), HOP, SOURCE, 0.5) is is_support


def test_the_title_of_a_chapter_is_no_name_that_support_must_hold() -> None:
    source = Passage("s", "9.3. Services", "The daemon cron runs commands at given times.")
    hop = Hop("", "9.3. Services runs commands given times", "cron")
    assert supports(Passage("f", "Tools", "With cron one runs commands at given times."), hop, source, 0.5)


def test_without_overlap_the_answer_is_enough() -> None:
    assert supports(Passage("f", "", "a transaction block"), HOP, SOURCE, 0.0)


def test_a_sibling_in_a_chapter_says_it_of_something_else() -> None:
    source = Passage("s", "53.64. pg_type", "The default is stored as a string of the form nodeToString().")
    hop = Hop("", "53.64. pg_type default stored string form", "nodeToString()")
    text = "The default is stored as a string of the form nodeToString()."
    assert not supports(Passage("f", "53.39. pg_proc", text), hop, source, 0.5)
    assert supports(Passage("f", "Catalog", f"In pg_type the {text[4:]}"), hop, source, 0.5)


def test_a_chapter_needs_nearly_the_same_sentence() -> None:
    source = Passage(
        "s", "9.3. Services", "The daemon cron runs the commands of users at given times of a day."
    )
    hop = Hop("", "9.3. Services daemon runs commands users given times day", "cron")
    half = Passage("f", "Tools", "With cron one lists the commands and the users at any time.")
    assert not supports(half, hop, source, 0.5)
    whole = Passage("f", "Tools", "As a daemon, cron runs commands of all users at the given times.")
    assert supports(whole, hop, source, 0.5)


def test_a_passage_about_another_entry_says_it_of_something_else() -> None:
    said = "On success, 0 is returned, and a negative value such as TEA_TOO_HOT if the pouring failed."
    source = Passage("s", "9.1. Kitchen Tools", f"pour_cup(pot)\n\nFills a cup.\n\n{said}")
    hop = Hop("", "9.1. Kitchen Tools success returned negative value pouring failed", "TEA_TOO_HOT")
    assert not supports(Passage("f", "Cups", f"pour_bowl(pot)\n\n{said}"), hop, source, 0.5)
    assert supports(Passage("f", "Cups", f"pour_cup(pot)\n\n{said}"), hop, source, 0.5)


def test_where_the_text_begins_in_the_middle_of_an_entry_nobody_knows_of_which() -> None:
    said = "Returns 0 on success, and a negative value such as TEA_TOO_HOT if the pouring failed."
    source = Passage("s", "9.1. Kitchen Tools", f"{said}\n\npour_cup(pot)\n\nFills a cup.")
    hop = Hop("", "9.1. Kitchen Tools returns success negative value pouring failed", "TEA_TOO_HOT")
    assert not supports(Passage("f", "Cups", said), hop, source, 0.5)
    chapter = dataclasses.replace(source, text=f"The kitchen is warm. {source.text}")
    assert supports(Passage("f", "Cups", said), hop, chapter, 0.5)


def test_an_entry_that_is_the_answer_needs_no_other_name() -> None:
    said = "the maximum safe depth of the stack of cups of the kitchen."
    text = f"pour_cup(pot)\n\nFills a cup.\n\nmax_cups (integer)\n\nSpecifies {said}"
    source = Passage("s", "20.1. Kitchen", text)
    hop = Hop("", "parameter specifies maximum safe depth stack cups kitchen", "max_cups")
    assert supports(Passage("f", "Cups", f"The parameter max_cups specifies {said}"), hop, source, 0.5)


def test_a_call_that_the_sentence_names_has_to_be_named() -> None:
    said = "When comparing the output of {}, it is recommended to use compare_teas() instead of a taste."
    source = Passage("s", "9.1. Kitchen Tools", said.format("steep()"))
    hop = Hop("", "9.1. Kitchen Tools comparing output recommended instead taste", "compare_teas()")
    assert not supports(Passage("f", "Cups", said.format("oversteep()")), hop, source, 0.5)
    assert supports(Passage("f", "Cups", said.format("steep()")), hop, source, 0.5)
