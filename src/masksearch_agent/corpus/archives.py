"""Archives of many documents: pages of the web (`.warc.gz`), known by their addresses, and e-mails (`.mbox`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from masksearch_agent.corpus.encodings import as_utf8
from masksearch_agent.corpus.placed import Placed, failing, given
from masksearch_agent.errors import UnreadableDocumentError, needs_extra

__all__ = ("ARCHIVE_SUFFIXES", "read_archive")

ARCHIVE_SUFFIXES = (".warc", ".warc.gz", ".warc.wet.gz", ".mbox")

_MESSAGE_ID = re.compile(rb"^message-id:\s*<([^<>\s]+)>", re.IGNORECASE | re.MULTILINE)
_MAIL_START = re.compile(rb"From .{0,500}\d:\d\d.{0,30}\d{4}")
"""Who sent the mail that follows, and when; `From May on, …` is text."""
_QUOTED_START = re.compile(rb"^>(>*From )")
_KINDS = {
    "text/html": ".html",
    "application/xhtml+xml": ".xhtml",
    "text/plain": ".txt",
    "application/pdf": ".pdf",
}


def read_archive(path: Path, max_bytes: int) -> Iterator[Placed[tuple[str, bytes]]]:
    """Yield what an archive holds, by its address: its kind (a file name ending) and its bytes.

    That of an e-mail is its own id, or where it stands. Requests and the archive's own records are not documents.

    Raises:
        MissingExtraError: fastwarc is not installed.
        UnreadableDocumentError: While iterating, where the archive is damaged or cut off.
    """
    if path.suffix.lower() == ".mbox":
        yield from _read_mbox(path, max_bytes)
        return
    with needs_extra("corpus"):
        from fastwarc.warc import ArchiveIterator, WarcRecordType
    wanted = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
    count = 0
    try:
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=wanted, parse_http=False):
                count += 1
                address = record.headers.get("WARC-Target-URI") or f"record {count}"
                # What is not read now is gone with the next record.
                try:
                    read = given(_read_record(record, max_bytes))
                except UnreadableDocumentError as failure:
                    read = failing(failure)
                yield address, read
    except (OSError, EOFError, ValueError) as failure:
        raise UnreadableDocumentError("damaged archive", f"after record {count}: {failure}") from failure
    if not count and path.stat().st_size:
        raise UnreadableDocumentError("damaged archive", "holds no record of a page")


def _read_mbox(path: Path, max_bytes: int) -> Iterator[Placed[tuple[str, bytes]]]:
    count = 0
    with path.open("rb") as file:
        for count, raw in enumerate(_mails_of(file, max_bytes), start=1):
            told = _MESSAGE_ID.search(raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0])
            address = told[1].decode(errors="replace") if told else f"message {count}"
            yield address, failing(_too_large(max_bytes)) if len(raw) > max_bytes else given((".eml", raw))
    if not count and path.stat().st_size:
        raise UnreadableDocumentError("damaged archive", "holds no e-mail")


def _mails_of(file: IO[bytes], max_bytes: int) -> Iterator[bytes]:
    """Yield the mails of a mailbox, of a large one the beginning; `mailbox` takes every line `From …` for a new one."""
    taken, size, is_inside, is_after_blank = list[bytes](), 0, False, True
    while line := file.readline(max_bytes):
        if is_after_blank and _MAIL_START.match(line):
            if is_inside:
                yield b"".join(taken)
            taken, size, is_inside = [], 0, True
        elif is_inside and size <= max_bytes:
            taken.append(_QUOTED_START.sub(rb"\1", line))
            size += len(line)
        is_after_blank = not line.strip()
    if is_inside:
        yield b"".join(taken)


def _read_record(record: Any, max_bytes: int) -> tuple[str, bytes]:
    if record.content_length > max_bytes:
        raise _too_large(max_bytes)
    raw = record.reader.read()
    if len(raw) < record.content_length:
        raise UnreadableDocumentError("damaged archive", "the record is cut off")
    if not record.is_http:
        return _kind_of(record.headers.get("Content-Type")), raw
    # A page that is not packed as its header says would end the archive; some are kept as they are unpacked.
    for is_packed in (True, False):
        with suppress(OSError):
            return _read_response(raw, is_packed, max_bytes)
    raise UnreadableDocumentError("damaged archive", "the record is no server's response")


def _read_response(raw: bytes, is_packed: bool, max_bytes: int) -> tuple[str, bytes]:
    from fastwarc.warc import ArchiveIterator

    kind = "Content-Type: application/http; msgtype=response"
    head = f"WARC/1.0\r\nWARC-Type: response\r\n{kind}\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
    pages = ArchiveIterator(BytesIO(head + raw + b"\r\n\r\n"), auto_decode="all" if is_packed else "none")
    page = next(iter(pages), None)
    if page is None or page.http_headers is None:
        raise UnreadableDocumentError("damaged archive", "the record is no server's response")
    status = page.http_headers.status_code
    if status is not None and status != 200:
        raise UnreadableDocumentError(f"HTTP status {status}", has_failed=False)
    kind = _kind_of(page.http_content_type)
    content = page.reader.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    charset = page.http_charset if kind != ".pdf" else None
    return kind, as_utf8(content, charset) if charset else content


def _kind_of(content_type: str | None) -> str:
    kind = _KINDS.get((content_type or "").partition(";")[0].strip().lower())
    if kind is None:
        reason = f"other format ({content_type})"
        raise UnreadableDocumentError(reason, "not read as a document", has_failed=False)
    return kind


def _too_large(max_bytes: int) -> UnreadableDocumentError:
    return UnreadableDocumentError("too large", f"larger than {max_bytes:,} bytes (corpus.max_file_bytes)")
