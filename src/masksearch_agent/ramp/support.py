"""Whether a passage says what a masked sentence or a question asks for, and does not only hold the answer's words.

A passage on one command holds the words of a passage on its sibling, and a list of years holds every year. So one
sentence has to hold the answer, words of what is asked, and all names of it: another command, setting or person is
another name. What a passage is about it often says in its title alone, so the title counts with the sentence; a title
or a heading by itself says nothing. Of a manual the passage has to name the entry that is asked about, too, since its
siblings are described in the same sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from masksearch_agent.ramp.hops import SENTENCE_END, content_words, sentence_around
from masksearch_agent.ramp.lexicon.glossary import general_words
from masksearch_agent.ramp.lexicon.manual_entries import entry_of
from masksearch_agent.ramp.lexicon.titles import NUMBERING, heading_name, is_code_name
from masksearch_agent.records import Hop, Passage
from masksearch_agent.text.matching import contains_phrase, tokenize_answer
from masksearch_agent.text.words import is_chinese

__all__ = ("supports",)

_OF_CHAPTER = 0.75
_MIN_SHARED = 2
"""Words of what is asked that the sentence itself holds, beside the answer: one is chance."""
_IS_SENTENCE = re.compile(r"[.!?:;][\"'”’)\]]*$")
_MIN_WORDS = 5
_NAME = re.compile(r"\w*(?:[A-Z]|\d|_)[\w'’-]*")
_EMPTY_CALL = re.compile(r"\b(\w+)\(\)")
"""As prose names a function."""
_CALL = re.compile(r"\b(\w+)\(")


def supports(found: Passage, hop: Hop, source: Passage, overlap: float) -> bool:
    """Return whether a passage supports the answer to what is asked of a source.

    Args:
        found: The passage.
        hop: What is asked; its query leads with the source's title where that says what the query is about.
        source: What the task is made from.
        overlap: Share of the query's words that sentence and title must hold. At 0 the answer is enough, as it is for
            Chinese text, where each character is a word.
    """
    text = f"{found.title}\n{found.text}"
    if not contains_phrase(text, hop.answer):
        return False
    if not overlap or is_chinese(text):
        return True
    if not _names_entry(text, hop.answer, source.text):
        return False
    asked, names = _asked(hop.query, source.title)
    if NUMBERING.match(source.title):
        # A chapter tells of siblings in the same words, and its title is no name that would keep them apart.
        overlap = max(overlap, _OF_CHAPTER)
    title = set(tokenize_answer(found.title))
    # Of an article, the title is what its sentences are about; that of a chapter is not.
    is_entitled = not NUMBERING.match(found.title) and contains_phrase(found.title, hop.answer)
    for sentence in _sentences(found.text):
        if not is_entitled and not contains_phrase(sentence, hop.answer):
            continue
        held = set(tokenize_answer(sentence))
        is_told = len(asked & held) >= min(_MIN_SHARED, len(asked))
        if is_told and names <= held | title and len(asked & (held | title)) >= overlap * len(asked):
            return True
    return False


def _names_entry(text: str, answer: str, source: str) -> bool:
    """Whether a text names what its source describes where an answer stands: the entry, and what is called there."""
    described = _described(source, answer)
    # The source may have it in other letters.
    return not described or any(
        name is not None
        and _names(text, answer, name)
        and calls <= {answer.removesuffix("()"), *_CALL.findall(text)}
        for name, calls in described
    )


def _names(text: str, answer: str, entry: str) -> bool:
    if entry.startswith("-"):
        return entry in text  # `--quiet` is more than the word.
    name = entry.rpartition(".")[2]
    return not name or contains_phrase(answer, name) or contains_phrase(text, name)


@lru_cache(maxsize=64)
def _described(source: str, answer: str) -> tuple[tuple[str | None, frozenset[str]], ...]:
    """Return for each place of an answer in its source the entry there, and what its sentence calls."""
    described = []
    for found in re.finditer(rf"(?<!\w){re.escape(answer)}(?!\w)", source):
        place = found.start()
        sentence = " ".join(sentence_around(source[:place], source[place:]))
        described.append((entry_of(source, place), frozenset(_EMPTY_CALL.findall(sentence))))
    return tuple(described)


def _asked(query: str, title: str) -> tuple[set[str], set[str]]:
    """Return the words of a query without the title that leads it, and the names in both.

    The title of a chapter ("9.3. Services") is the name of nothing; that of an article or of a manual page is what its
    sentences are about.
    """
    is_led = bool(title) and query.startswith(title)
    words = query[len(title) :].split() if is_led else query.split()
    names = [word for word in words if _is_name(word)]
    if is_led and (not NUMBERING.match(title) or is_code_name(heading_name(title))):
        names += content_words(heading_name(title))
    return set(tokenize_answer(" ".join(words))), set(tokenize_answer(" ".join(names)))


def _is_name(word: str) -> bool:
    """Whether a word is a name, a number or an identifier; the first word of a sentence is none for its capital."""
    if not _NAME.fullmatch(word):
        return False
    return not (word.istitle() and word.lower() in general_words())


def _sentences(text: str) -> Iterator[str]:
    start = 0
    for end in [*(match.end() for match in SENTENCE_END.finditer(text)), len(text)]:
        sentence = text[start:end].strip()
        start = end
        if len(sentence.split()) >= _MIN_WORDS and _IS_SENTENCE.search(sentence):
            yield sentence
