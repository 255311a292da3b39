"""Text as it is stored: one form of each character, and nothing in it that cannot be stored, seen or found.

Invariant: what `clean_text` returns can be written as UTF-8, it is its own clean form, and plain ASCII text without
control characters comes back as it was.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ("clean_text", "encodable", "search_form")

_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"  # control characters but tab, line ends and page break
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]"
)
# Joiners mean something in Persian, Indic scripts and emoji, and nothing after Latin, Greek or Cyrillic letters.
_IDLE_JOINER = re.compile("(?<=[\x00-\u058f\u1e00-\u1fff])[\u200c\u200d]+")
_LINE_END = re.compile("\r\n?|[\x85\u2028\u2029]")
_DATA_URI = re.compile(r"(?:!\[[^\]\n]{0,200}\]\(\s?)?data:[\w.+/;=-]{1,200},[A-Za-z0-9+/=%_-]{64,}\)?")
_SEARCH_DROPS = re.compile(
    "[\u00ad\u0640\u200b-\u200f\u2060\ufeff"  # joiners and the Arabic letter stretcher too
    "\u0300-\u036f\u0483-\u0487"  # marks that no letter of their own exists with, such as the stress of Russian words
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # points of Hebrew
    "\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]"  # of Arabic
)
# Greek capitals are written without the accents of small letters.
_GREEK = {
    code: unicodedata.normalize("NFD", chr(code))[0]
    for code in (*range(0x386, 0x3D0), *range(0x1F00, 0x1FFE))
    if chr(code).isalpha()
}
_SEARCH_LETTERS = str.maketrans("ёأإآٱىı", "еاااايi") | _GREEK
"""Letters that a text writes and a query leaves plain, or the other way round; the capital of the Turkish `ı` is `I`,
whose small letter is `i` in other languages."""


def clean_text(text: str) -> str:
    """Return a text in Unicode's form C, without half surrogates, control and bidi characters, soft hyphens,
    characters of no width and pictures written out in base64; a line ends in a line feed.
    """
    if not text.isascii():
        # Two halves that stand side by side make one character; one that stands alone makes none.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if not text.isprintable():
        text = _IDLE_JOINER.sub("", _UNSEEN.sub("", _LINE_END.sub("\n", text)))
    if "data:" in text:
        text = _DATA_URI.sub("", text)
    return unicodedata.normalize("NFC", text)


def encodable(text: str) -> str:
    """Return a text with a question mark for each half surrogate, which no encoding can write."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def search_form(text: str) -> str:
    """Return a text as it is searched: letters of one width and one case, without what writers put in or leave out.

    That is the points of Arabic and Hebrew, the stress of Russian words, the accents of Greek, and what is not seen.
    """
    if text.isascii():
        return text.casefold()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _SEARCH_DROPS.sub("", text).translate(_SEARCH_LETTERS)
