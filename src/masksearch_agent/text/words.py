"""What a word is, in scripts with and without spaces between words: one definition for each use.

    count_words, word_starts   limits and lengths: what stands between spaces (`isn't`, `U.S.`)
    WORD, words_of             comparing texts: runs of letters and digits, without punctuation
    query_words                words to search with: those, and `Jean-Paul` or `isn't` in one
    search_terms               terms of a lexical index: those of `\\w+`, Chinese also by pairs of characters

Everywhere a single Chinese character is a word, as it is in the scores (`matching`): a sentence without spaces is then
as long as it reads, and not one endless word.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

__all__ = (
    *("HAN", "WORD", "count_words", "is_chinese", "query_words", "search_terms", "space_chinese"),
    *("word_shingles", "word_starts", "words_of"),
)

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters, as ranges for a character class."""
WORD = rf"[{HAN}]|[^\W{HAN}]+"
"""Pattern of a word that is compared with others."""

_FULL_WIDTH_PUNCTUATION = r"\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_COUNTED = re.compile(rf"[{HAN}]|[^\s{HAN}{_FULL_WIDTH_PUNCTUATION}]+")
_COMPARED = re.compile(WORD)
_QUERIED = re.compile(r"\w+(?:['’-]\w+)*")
_INDEXED = re.compile(r"\w+")
_HAN = re.compile(rf"[{HAN}]")
_RUN_OF_SCRIPT = re.compile(rf"([{HAN}]+)|[^{HAN}]+")
_CHINESE_SHARE = 0.3
"""Chinese text holds numbers, names in Latin script and punctuation too."""
_SHINGLE_WORDS = 4
_CUT = re.compile(r"\.{3,}")
"""Where a web search's snippet leaves text out; NFKC turns `…` into three dots."""


def count_words(text: str) -> int:
    """Return the number of words: runs between spaces, and single Chinese characters."""
    return len(_COUNTED.findall(text))


def word_starts(text: str) -> list[int]:
    """Return where each of the words that `count_words` counts starts, in characters."""
    return [word.start() for word in _COUNTED.finditer(text)]


def words_of(text: str) -> list[str]:
    """Return the words to compare a text by: runs of letters and digits, and single Chinese characters."""
    return _COMPARED.findall(text)


def query_words(text: str) -> list[str]:
    """Return the words to search with, those joined by a hyphen or an apostrophe in one."""
    return _QUERIED.findall(text)


def search_terms(text: str) -> list[str]:
    """Return the terms that a lexical index holds of a text; stored indexes depend on them.

    Chinese text, which has no spaces, gives its characters and its pairs of neighbouring characters.
    """
    words = _INDEXED.findall(text.casefold())
    if text.isascii():
        return words
    terms = []
    for word in words:
        for run in _RUN_OF_SCRIPT.finditer(word):
            terms.extend([*run[1], *map("".join, pairwise(run[1]))] if run[1] else [run[0]])
    return terms


@lru_cache(maxsize=1024)
def word_shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Return the word 4-grams of a text, by which near copies are told; words on either side of a cut are no
    neighbours.

    A text of fewer words is one shingle as a whole: it matches only its equal, where shorter n-grams would
    make every passage that mentions a two-word source its copy.
    """
    pieces = [words_of(piece) for piece in _CUT.split(unicodedata.normalize("NFKC", text).casefold())]
    shingles = frozenset(
        shingle
        for words in pieces
        for shingle in zip(*(words[start:] for start in range(_SHINGLE_WORDS)), strict=False)
    )
    words = tuple(word for piece in pieces for word in piece)
    return shingles or frozenset([words] if words else [])


def space_chinese(text: str) -> str:
    """Return the text with spaces around each Chinese character."""
    return _HAN.sub(r" \g<0> ", text)


def is_chinese(text: str) -> bool:
    """Whether a text is written in Chinese characters for the most part."""
    return len(_HAN.findall(text)) > _CHINESE_SHARE * max(1, len(text))
