"""E-mails to plain text in sections: what somebody wrote, with the messages that are forwarded in it.

Of the same text in two forms the plain one is read. Files that are attached are not read, and told of.
"""

from __future__ import annotations

from email import message_from_bytes
from email.errors import MessageError
from email.message import Message
from email.policy import default
from typing import Any, cast

from masksearch_agent.corpus.encodings import as_utf8, decode_text
from masksearch_agent.corpus.pages import Document, Section, sections_of
from masksearch_agent.errors import UnreadableDocumentError
from masksearch_agent.text.cleaning import clean_text

__all__ = ("read_mail",)

_TOLD = ("from", "to", "cc", "date")
_BODIES = ("text/plain", "text/html")


def read_mail(raw: bytes, encoding: str) -> Document:
    """Read an e-mail; its title is its subject. `encoding` is that of text that does not say its own."""
    message = message_from_bytes(raw.removeprefix(b"\xef\xbb\xbf").lstrip(), policy=default)
    if not message.keys():
        raise UnreadableDocumentError("broken eml", "has no header of an e-mail")
    sections, left_out = _read(message, encoding)
    about = {name: told for name in _TOLD if (told := _header(message, name))}
    return Document(_header(message, "subject"), sections, about, left_out)


def _read(part: Message[Any, Any], encoding: str) -> tuple[list[Section], list[str]]:
    """Return the text of a part, and the names of the files in it."""
    kind, parts = part.get_content_type(), cast("Any", part.get_payload())
    if not isinstance(parts, list):
        return _read_leaf(part, encoding)
    # Of alternatives the first with text is read.
    parts = sorted(
        parts, key=lambda each: kind == "multipart/alternative" and each.get_content_type() not in _BODIES[:1]
    )
    read = [_read(each, encoding) for each in parts]
    texts = [sections for sections, _ in read if any(text.strip() for _, text in sections)]
    sections = [
        section for each in texts[: 1 if kind == "multipart/alternative" else None] for section in each
    ]
    if kind == "message/rfc822" and (subject := _header(parts[0], "subject")):
        sections = [((subject, *headings), text) for headings, text in sections]
    return sections, [name for _, names in read for name in names]


def _read_leaf(part: Message[Any, Any], encoding: str) -> tuple[list[Section], list[str]]:
    kind, is_attached = part.get_content_type(), part.get_content_disposition() == "attachment"
    if is_attached or (kind not in _BODIES and part.get_content_maintype() != "multipart"):
        # Pictures within a text are no files that a reader misses.
        is_picture = part.get_content_maintype() == "image" and not is_attached
        return [], [] if is_picture else [clean_text(part.get_filename() or kind)]
    payload = part.get_payload(decode=True)
    raw = payload if isinstance(payload, bytes) else b""
    charset = part.get_content_charset() or encoding
    is_page = kind == "text/html"
    try:
        text = decode_text(as_utf8(raw, charset) if charset else raw, is_web_page=is_page)
    except UnreadableDocumentError:
        text = raw.decode(errors="replace")
    return sections_of(text, is_web_page=False) if is_page else [((), text)], []


def _header(message: Message[Any, Any], name: str) -> str:
    try:
        value = message[name]
        day = getattr(value, "datetime", None)
        text = str(value or "") if day is None else day.isoformat()
    except (MessageError, ValueError, LookupError, AttributeError, TypeError):
        # What breaks the parser of headers stays as it is written.
        text = next(str(raw) for key, raw in message.raw_items() if key.lower() == name)
    return " ".join(clean_text(text).split())
