"""What a word is, in scripts with and without spaces between words: one definition for each use.

    count_words                limits and lengths: what stands between spaces (`isn't`, `U.S.`)
    WORD, words_of             comparing texts: runs of letters and digits, without punctuation
    query_words                words to search with: those, and `Jean-Paul` or `isn't` in one
    search_terms               terms of a lexical index: those in one case and width; where a script writes no spaces
                               or joins particles to a word, its characters and pairs of neighbouring ones

A mark belongs to the letter before it (UAX #29, rule WB4): vowel signs do not end a word of Hindi or Tamil.
Everywhere a single Chinese character is a word, as it is in the scores (`matching`): a sentence without spaces is then
as long as it reads, and not one endless word.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

from masksearch_agent.text.cleaning import search_form

__all__ = (
    *("HAN", "WORD", "count_words", "is_chinese", "query_words", "search_terms", "space_chinese"),
    *("word_shingles", "words_of"),
)

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters, as ranges for a character class."""


def _ranges_of_marks() -> str:
    codes = [code for code in range(0x300, 0x1F000) if unicodedata.category(chr(code))[0] == "M"]
    starts = [code for before, code in pairwise([0, *codes]) if code != before + 1]
    ends = [code for code, after in pairwise([*codes, 0]) if after != code + 1]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


_MARKS = _ranges_of_marks() + r"\u200c\u200d"
WORD = rf"[{HAN}]|[^\W{HAN}]++(?:[{_MARKS}]+[^\W{HAN}]*)*+"
"""Pattern of a word that is compared with others."""

_KANA = r"\u3041-\u3096\u3099-\u30ff\uff66-\uff9f"
_UNSPACED = (
    rf"{HAN}{_KANA}\u1100-\u11ff\uac00-\ud7af"  # Japanese; Korean, whose particles follow their word without a space
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
)
_FULL_WIDTH_PUNCTUATION = r"\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_COUNTED = re.compile(rf"[{HAN}{_KANA}]|[^\s{HAN}{_KANA}{_FULL_WIDTH_PUNCTUATION}]+")
_COMPARED = re.compile(WORD)
_RUN = rf"\w++(?:[{_MARKS}]+\w*)*+"
_QUERIED = re.compile(rf"{_RUN}(?:['’-]{_RUN})*")
_INDEXED = re.compile(_RUN)
_ASCII_WORD = re.compile(r"\w+")
_HAN = re.compile(rf"[{HAN}]")
_RUN_OF_SCRIPT = re.compile(rf"([{_UNSPACED}]+)|[^{_UNSPACED}]+")
_LETTER = re.compile(rf".[{_MARKS}]*")
_CHINESE_SHARE = 0.3
"""Chinese text holds numbers, names in Latin script and punctuation too."""
_SHINGLE_WORDS = 4
_CUT = re.compile(r"\.{3,}")
"""Where a web search's snippet leaves text out; NFKC turns `…` into three dots."""


def count_words(text: str) -> int:
    """Return the number of words: runs between spaces, and single Chinese characters."""
    return len(_COUNTED.findall(text))


def words_of(text: str) -> list[str]:
    """Return the words to compare a text by: runs of letters and digits, and single Chinese characters."""
    return (_ASCII_WORD if text.isascii() else _COMPARED).findall(text)


def query_words(text: str) -> list[str]:
    """Return the words to search with, those joined by a hyphen or an apostrophe in one."""
    return _QUERIED.findall(text)


def search_terms(text: str) -> list[str]:
    """Return the terms that a lexical index holds of a text; stored indexes depend on them."""
    if text.isascii():
        return _ASCII_WORD.findall(text.casefold())
    terms = []
    for word in _INDEXED.findall(search_form(text)):
        if word.isascii():
            terms.append(word)
            continue
        for run in _RUN_OF_SCRIPT.finditer(word):
            if run[1]:
                letters = _LETTER.findall(run[1])
                terms.extend([*letters, *map("".join, pairwise(letters))])
            else:
                terms.append(run[0])
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
