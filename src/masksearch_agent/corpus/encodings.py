"""The encoding of a text file: what it says itself, UTF-8, or a guess."""

from __future__ import annotations

import codecs
import re

from masksearch_agent.errors import UnreadableDocumentError, needs_extra

__all__ = ("as_utf8", "decode_text", "find_encoding")

_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_GUESSED_BYTES = 100_000
_WINDOWS = {
    **dict.fromkeys(("iso8859-1", "iso8859-10", "iso8859-15"), "cp1252"),
    **{"iso8859-2": "cp1250", "iso8859-7": "cp1253", "iso8859-9": "cp1254", "iso8859-13": "cp1257"},
}
"""What people write in place of an encoding that is much like it."""
_LETTERS_OF_WINDOWS = re.compile(rb"[\x80-\x9f]")
"""Control characters in every encoding of ISO 8859."""
_NULS = 100
"""Bytes to a NUL byte that make a text UTF-8 with damage and not one of wide characters, or no text."""
_MOSTLY = 4
"""Good characters to a bad one that make a text UTF-8 with damage and not another encoding."""


def decode_text(raw: bytes, encoding: str = "", is_web_page: bool = False) -> str:
    """Return the text of a file, without a byte order mark; `encoding` is found where empty.

    Raises:
        UnreadableDocumentError: It is in another encoding, or no text.
    """
    found = encoding or find_encoding(raw, is_web_page)
    errors = "replace" if found == "utf-8" and not encoding else "strict"
    try:
        return raw.decode(found, errors).removeprefix("\ufeff")
    except (UnicodeDecodeError, LookupError) as failure:
        detail = f"not {found.upper()} ({failure}); set corpus.encoding"
        raise UnreadableDocumentError("wrong encoding", detail) from failure


def as_utf8(raw: bytes, charset: str) -> bytes:
    """Return a text, decoded as its sender says, in UTF-8 with a mark; as it was where it is something else.

    Many a one calls every text ISO-8859-1, which any bytes are; what reads as UTF-8 is UTF-8 all the same.
    """
    with needs_extra("corpus"):
        from resiliparse.parse.encoding import map_encoding_to_html5

    try:
        if raw.startswith(tuple(_MARKS)) or (not raw.isascii() and raw.decode()):
            return raw
    except UnicodeDecodeError:
        pass  # It is not UTF-8.
    try:
        # Browsers read ISO-8859-1 as Windows-1252, and so do those who write it.
        return raw.decode(map_encoding_to_html5(charset, fallback_utf8=False) or charset).encode("utf-8-sig")
    except (LookupError, ValueError):
        return raw


def find_encoding(raw: bytes, is_web_page: bool = False) -> str:
    """Return the encoding of a text: that of its byte order mark, UTF-8, what a web page says, or a guess.

    Raises:
        UnreadableDocumentError: It is no text, or of no known encoding.
    """
    for mark, name in _MARKS.items():
        if raw.startswith(mark):
            return name
    if raw.count(0) * _NULS <= len(raw):
        text = raw.decode(errors="replace")
        damaged = text.count("\ufffd")
        if not damaged or (b"\0" not in raw and damaged * _MOSTLY < sum(map(len, _NOT_ASCII.findall(text)))):
            return "utf-8"
    with needs_extra("corpus"):
        from charset_normalizer import from_bytes
        from resiliparse.parse.encoding import detect_encoding
    guess = _of_windows(raw, "" if b"\0" in raw else str(detect_encoding(raw, from_html_meta=is_web_page)))
    if guess in ("", "utf-8"):
        best = from_bytes(raw[:_GUESSED_BYTES]).best()
        guess = best.encoding if best is not None else ""
    if b"\0" in raw and not guess.startswith(("utf_16", "utf_32")):
        raise UnreadableDocumentError("not text", "holds bytes that no text has")
    if not guess:
        raise UnreadableDocumentError("wrong encoding", "not UTF-8, and no guess fits; set corpus.encoding")
    return _of_windows(raw, guess) or guess


def _of_windows(raw: bytes, guess: str) -> str:
    """Return the encoding of Windows that a text is in where its letters say so, or where nobody uses the other one.

    None, the empty string, where its letters are none of either encoding, as those of DOS.
    """
    try:
        name = codecs.lookup(guess).name
        if name in _WINDOWS and (name == "iso8859-10" or _LETTERS_OF_WINDOWS.search(raw)):
            raw.decode(_WINDOWS[name])
            return _WINDOWS[name]
    except UnicodeDecodeError:
        return ""
    except LookupError:
        pass  # Python has no such encoding.
    return guess
