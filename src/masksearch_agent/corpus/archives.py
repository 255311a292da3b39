"""Web archives (`.warc.gz`): each page that was fetched is a document, known by its address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from masksearch_agent.corpus.placed import Placed, failing, given
from masksearch_agent.errors import UnreadableDocumentError, needs_extra

__all__ = ("ARCHIVE_SUFFIXES", "read_archive")

ARCHIVE_SUFFIXES = (".warc", ".warc.gz", ".warc.wet.gz")

_KINDS = {
    "text/html": ".html",
    "application/xhtml+xml": ".xhtml",
    "text/plain": ".txt",
    "application/pdf": ".pdf",
}
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def read_archive(path: Path, max_bytes: int) -> Iterator[Placed[tuple[str, bytes]]]:
    """Yield what an archive holds of the web, by its address: its kind (a file name ending) and its bytes.

    Requests and the archive's own records are not documents.

    Raises:
        MissingExtraError: fastwarc is not installed.
        UnreadableDocumentError: While iterating, where the archive is damaged or cut off.
    """
    with needs_extra("corpus"):
        from fastwarc.warc import ArchiveIterator, WarcRecordType
    wanted = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
    count = 0
    try:
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=wanted, auto_decode="all"):
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


def _read_record(record: Any, max_bytes: int) -> tuple[str, bytes]:
    status = record.http_headers.status_code if record.is_http else None
    if status is not None and status != 200:
        raise UnreadableDocumentError(f"HTTP status {status}", has_failed=False)
    content_type = record.http_content_type if record.is_http else record.headers.get("Content-Type", "")
    kind = _KINDS.get((content_type or "").partition(";")[0].strip().lower())
    if kind is None:
        raise UnreadableDocumentError(
            f"other format ({content_type})", "not read as a document", has_failed=False
        )
    raw = record.reader.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise UnreadableDocumentError("too large", f"larger than {max_bytes:,} bytes (corpus.max_file_bytes)")
    if not raw and record.content_length:
        raise UnreadableDocumentError("damaged archive", "the record is cut off")
    charset = record.http_charset if record.is_http and kind != ".pdf" else None
    return kind, _as_utf8(raw, charset) if charset else raw


def _as_utf8(raw: bytes, charset: str) -> bytes:
    """Return a page, decoded as its server says, in UTF-8 with a mark; as it was where it is something else.

    Many a server calls every page ISO-8859-1, which any bytes are; what reads as UTF-8 is UTF-8 all the same.
    """
    from resiliparse.parse.encoding import map_encoding_to_html5

    try:
        if raw.startswith(_MARKS) or (not raw.isascii() and raw.decode()):
            return raw
    except UnicodeDecodeError:
        pass  # It is not UTF-8.
    try:
        # Browsers read ISO-8859-1 as Windows-1252, and so do those who write it.
        return raw.decode(map_encoding_to_html5(charset, fallback_utf8=False) or charset).encode("utf-8-sig")
    except (LookupError, ValueError):
        return raw
