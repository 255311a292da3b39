"""What a word is, in scripts with and without spaces between words.

Limits are counted in words everywhere. A Chinese character counts as one, as it does in the scores
(`matching`): a sentence without spaces is then as long as it reads, and not one endless word.
"""

from __future__ import annotations

import re

__all__ = ("HAN", "count_words", "is_chinese", "word_starts")

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters, as ranges for a character class."""

_FULL_WIDTH_PUNCTUATION = r"\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_WORD = re.compile(rf"[{HAN}]|[^\s{HAN}{_FULL_WIDTH_PUNCTUATION}]+")
_HAN = re.compile(rf"[{HAN}]")
_CHINESE_SHARE = 0.3
"""Chinese text holds numbers, names in Latin script and punctuation too."""


def count_words(text: str) -> int:
    """Return the number of words: runs between spaces, and single Chinese characters."""
    return len(_WORD.findall(text))


def word_starts(text: str) -> list[int]:
    """Return where each word of a text starts, in characters."""
    return [word.start() for word in _WORD.finditer(text)]


def is_chinese(text: str) -> bool:
    """Whether a text is written in Chinese characters for the most part."""
    return len(_HAN.findall(text)) > _CHINESE_SHARE * max(1, len(text))
