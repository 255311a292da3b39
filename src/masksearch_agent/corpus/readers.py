"""Read passages from datasets and from folders of documents, one at a time.

Three kinds of input meet here. A *table* has rows: passages already, which stay whole, or documents. A
*document* and a page of a *dump* or a web archive are cut into passages at paragraph and sentence ends, in a process
of their own (`process`). What cannot be read is reported with its reason and skipped, and the rest goes on.

Invariant: the same input gives the same passages with the same ids, in the same order, each once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.corpus.archives import ARCHIVE_SUFFIXES, read_archive
from masksearch_agent.corpus.documents import DOCUMENT_PARSERS, require_parser
from masksearch_agent.corpus.folders import ABOUT_DATA, files_of
from masksearch_agent.corpus.placed import Placed, failing
from masksearch_agent.corpus.process import ParserProcess
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.corpus.rows import PASSAGE_KEYS, cell_text, passages_from_row
from masksearch_agent.corpus.splitting import shorten_title, split_text
from masksearch_agent.corpus.tables import TABLE_READERS, read_hf_dataset, read_table, table_ending
from masksearch_agent.corpus.wikipedia import DUMP_SUFFIXES, read_dump
from masksearch_agent.errors import CorpusError, UnreadableDocumentError
from masksearch_agent.failures import reason_of, stops_run
from masksearch_agent.records import Passage, content_id

__all__ = ("read_passages",)

_Documents = Iterator[Placed[Iterable[Passage]]]

_DATASET_PREFIX = "hf:"
_SAMPLE_ROWS = 100
"""One of them holds a passage, or a table beside other files is of other data."""


def read_passages(
    source: Path | str,
    settings: CorpusSettings | None = None,
    report: CorpusReport | None = None,
    *,
    keeps_copies: bool = True,
) -> Iterator[Passage]:
    """Stream the passages of a file, a folder or a dataset.

    Args:
        source: A table (`.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`; JSON also packed as `.gz`) of passages (our own
            records, `{title, text}`, FlashRAG `{id, contents}`), of questions that ship theirs (`benchmarks`), or
            of documents in the column that the settings name; a Wikipedia dump (`.xml.bz2`, `.xml.gz`, `.xml`), a
            web archive (`.warc.gz`) or a mailbox (`.mbox`); a document (`documents`); a folder of them, read
            recursively in the order of their paths, without linked folders and indexes and, where it holds tables of
            passages and nothing else, without what tells about them (`README.md`); or a Hugging Face dataset,
            `hf:owner/name@config:split`. A `.json` list and a document are held in memory; nothing else is.
        settings: How documents are cut, and which columns are read; the defaults where None.
        report: Counts what is read, kept and skipped, and why; added to while iterating.
        keeps_copies: Of documents with one text each keeps it, so that an index has it until the last is taken out.
            False for what is asked of a text once.

    Returns:
        The passages, without repetitions. Passages without text are left out.

    Raises:
        CorpusError: At once where the path is missing or of an unknown format, at the end where there was no
            passage at all.
        MissingExtraError: If the parser of a format that occurs is not installed.
    """
    report = CorpusReport() if report is None else report
    reader = _Reader(settings or CorpusSettings(), report, keeps_copies)
    name, path = str(source), Path(source)
    if name.startswith(_DATASET_PREFIX):
        name = name.removeprefix(_DATASET_PREFIX)
        return reader.distinct(_up_to_failure(name, reader.of_rows(read_hf_dataset(name), name)), str(source))
    # `os.path` says no where `Path` raises, as for a name that is too long.
    if os.path.isdir(path):
        return reader.distinct(reader.of_folder(path), name)
    if not os.path.exists(path):
        raise CorpusError(f"no corpus at {path}; give the path of a file or a folder that exists")
    if not os.path.isfile(path):
        raise CorpusError(f"cannot read {path}: a pipe, a socket or a device; expected a file or a folder")
    if not _is_known(path):
        known = ", ".join([*TABLE_READERS, *DUMP_SUFFIXES, *ARCHIVE_SUFFIXES, *DOCUMENT_PARSERS])
        raise CorpusError(
            f"cannot read {path}: unknown format {path.suffix!r}; expected a folder or one of {known}"
        )
    return reader.distinct(reader.of_file(path, path.parent), name)


class _Reader:
    def __init__(self, settings: CorpusSettings, report: CorpusReport, keeps_copies: bool) -> None:
        self.settings = settings
        self.keeps_copies = keeps_copies
        self.report = report
        self.parser = ParserProcess(settings.max_file_seconds, settings.max_words)

    def distinct(self, documents: _Documents, source: str) -> Iterator[Passage]:
        # Hashes of an id, of title and text, and of the document: of a million passages they take 120 MB.
        seen: dict[int, int] = {}
        try:
            for where, read in documents:
                self.report.read += 1
                yield from self._fresh(where, read, seen)
        finally:
            self.parser.close()
        if not seen:
            known = " or ".join(DOCUMENT_PARSERS)
            hint = f"a folder must hold {known} files with text, a table at least one row with text"
            if self.report.examples:
                told = f"the first of {self.report.skipped.total()} skipped: {self.report.examples[0]}"
                hint = told if self.report.failed else f"{told}; {hint}"
            raise CorpusError(f"found no passage in {source}; {hint}")

    def _fresh(
        self, where: str, read: Callable[[], Iterable[Passage]], seen: dict[int, int]
    ) -> Iterator[Passage]:
        """Yield the passages of a document that were not read before."""
        skip = partial(self.report.skip, where)
        try:
            passages = [passage for passage in read() if passage.text.strip()]
        except Exception as failure:
            if stops_run(failure):
                raise
            skip(*_reason_for(failure))
            return
        fresh, clashing = 0, ""
        for passage in passages:
            content = content_id(passage.title, passage.text)
            told = int(content + content_id(passage.document_id or passage.id), 16)
            if self.keeps_copies and passage.id == content and seen.get(_key(content), told) != told:
                passage = replace(passage, id=content_id(passage.document_id or passage.source, content))
            key = _key(passage.id)
            if key not in seen:
                seen[key] = told
                fresh += 1
                self.report.passages += 1
                yield passage
            elif seen[key] >> 64 != int(content, 16):
                clashing = passage.id
        if clashing:
            skip("id used twice", f"another passage has the id {clashing!r}", has_failed=True)
        elif fresh:
            self.report.kept += 1
        else:
            reason = "repeated" if passages else "no text"
            skip(reason, "its passages were all read before" if passages else "holds no text")

    def of_folder(self, folder: Path) -> _Documents:
        files = sorted(files_of(folder, partial(self._leave_out, folder)))
        known = [file for file in files if _is_known(file)]
        documents = [file for file in known if _is_document(file)]
        data = [file for file in known if not _is_document(file)]
        about = {file for file in files if file not in data and ABOUT_DATA.fullmatch(file.stem.lower())}
        if about and about.issuperset(documents) and any(map(self._is_data, data)):
            known = data
        else:
            about = set()
        # Half of a corpus without a word would be worse than none: a missing parser is found before the start.
        for suffix in sorted({file.suffix.lower() for file in known if _is_document(file)}):
            require_parser(suffix)
        for file in sorted(set(files) - set(known)):
            kind = _name(Path(file.suffix.lower() or "no suffix"))
            reason = "about the data" if file in about else f"other format ({kind})"
            self._leave_out(folder, file, reason, "not read as a document", False)
        for file in known:
            yield from self.of_file(file, folder, is_one_of_many=len(known) > 1)

    def _leave_out(self, folder: Path, path: Path, reason: str, detail: str, has_failed: bool) -> None:
        self.report.read += 1
        self.report.skip(_name(path.relative_to(folder)), reason, detail, has_failed)

    def _is_data(self, file: Path) -> bool:
        """Whether a file that is no document holds passages."""
        try:
            if table_ending(file) in TABLE_READERS:
                rows = islice(read_table(file, self.settings), _SAMPLE_ROWS)
                return any(self._holds_passages(read, if_unreadable=False) for _, read in rows)
            is_archive = file.name.lower().endswith(ARCHIVE_SUFFIXES)
            return is_archive or any(True for _ in read_dump(file, self.settings.max_file_bytes))
        except (CorpusError, OSError, ValueError):
            return False  # Its reason is reported when it is read.

    def of_file(self, file: Path, root: Path, is_one_of_many: bool = False) -> _Documents:
        name = _name(file.relative_to(root))
        limit = self.settings.max_file_bytes
        if _is_document(file):
            require_parser(file.suffix.lower())
            return iter([(name, partial(self._read_document, file, name))])
        if table_ending(file) in TABLE_READERS:
            documents = self.of_rows(read_table(file, self.settings), name, is_one_of_many)
        elif file.name.lower().endswith(ARCHIVE_SUFFIXES):
            require_parser("warc")
            documents = (
                (f"{name}, {at}", partial(self._read_archived, read, name, at))
                for at, read in read_archive(file, limit)
            )
        else:
            require_parser("wikitext")
            documents = (
                (f"{name}, {title}", partial(self._read_page, read, name))
                for title, read in read_dump(file, limit)
            )
        return _up_to_failure(name, documents)

    def of_rows(self, rows: Iterator[Placed[object]], name: str, is_one_of_many: bool = False) -> _Documents:
        is_of_passages, waiting = not is_one_of_many, list[Placed[Iterable[Passage]]]()
        try:
            for where, read in rows:
                place = f"{name}, {where}"
                waiting.append((place, partial(self._read_row, read, name, place)))
                is_of_passages = is_of_passages or self._holds_passages(read, if_unreadable=True)
                if is_of_passages:
                    yield from waiting
                    waiting.clear()
                elif len(waiting) == _SAMPLE_ROWS:
                    break
        except Exception:
            yield from waiting
            raise
        if waiting:
            wanted = self.settings.text_column or ", ".join(sorted(PASSAGE_KEYS))
            detail = (
                f"none of its rows has one of the keys {wanted}; set corpus.text_column to that of its text"
            )
            yield name, failing(UnreadableDocumentError("no passages", detail, has_failed=False))

    def _holds_passages(self, read: Callable[[], object], if_unreadable: bool) -> bool:
        """Whether a row of a table is of a known shape; a folder may hold other data too."""
        try:
            row = read()
        except CorpusError:
            return if_unreadable  # Its own reason says more.
        wanted = {self.settings.text_column} - {""} or PASSAGE_KEYS
        return isinstance(row, dict) and not wanted.isdisjoint(row)

    def _read_row(self, read: Callable[[], object], name: str, place: str) -> Iterable[Passage]:
        row = read()
        if not isinstance(row, dict):
            raise CorpusError(f"the row is a {type(row).__name__}; expected a dict")
        if not self.settings.text_column:
            return self._bounded(passages_from_row(row, name))
        if self.settings.text_column not in row:
            raise UnreadableDocumentError(
                "no such column",
                f"has no column {self.settings.text_column!r}; its columns are {sorted(map(str, row))}",
            )
        columns = (self.settings.title_column, self.settings.text_column, self.settings.id_column)
        title, text, document_id = (cell_text(row, column) for column in columns)
        return _cut(shorten_title(title), text, document_id or place, name, self.settings.max_words)

    def _bounded(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """Yield passages as they are, but for long titles, and those that are too long in pieces."""
        for each in passages:
            # Its id stays that of the whole title, as questions that ship their passages know it.
            passage = replace(each, title=shorten_title(each.title))
            if len(passage.text) <= self.settings.max_row_chars:
                yield passage
            else:
                document_id = passage.document_id or passage.id
                yield from _cut(
                    passage.title, passage.text, document_id, passage.source, self.settings.max_words
                )

    def _read_document(self, file: Path, name: str) -> Iterable[Passage]:
        limit = self.settings.max_file_bytes
        if file.stat().st_size > limit:
            raise UnreadableDocumentError("too large", f"larger than {limit:,} bytes (corpus.max_file_bytes)")
        title, kind = _name(Path(file.stem)), file.suffix.lower()
        return self._parse(kind, file.read_bytes(), title, name, name, self.settings.encoding)

    def _read_archived(
        self, read: Callable[[], tuple[str, bytes]], name: str, place: str
    ) -> Iterator[Passage]:
        # `record 3` is known by its archive alone.
        document_id = place if "://" in place or "@" in place else f"{name}, {place}"
        return self._parse(*read(), place, document_id, place if "://" in place else name)

    def _read_page(self, read: Callable[[], tuple[str, str, bytes]], source: str) -> Iterable[Passage]:
        page_id, title, payload = read()
        return self._parse("wikitext", payload, title, page_id, source)

    def _parse(
        self, kind: str, raw: bytes, title: str, document_id: str, source: str, encoding: str = ""
    ) -> Iterator[Passage]:
        attached, limit = list[str](), self.settings.max_file_bytes
        pieces = self.parser.read(kind, raw, title, encoding, limit, attached.append)
        for each in attached:
            self.report.read += 1
            self.report.skip(f"{document_id}, {each}", "attached file", "attached, and not read")
        for position, piece in enumerate(pieces):
            known = {"headings": list(piece.headings), "page": piece.page}
            metadata = {**piece.about, **{key: value for key, value in known.items() if value}}
            passage_id = content_id(piece.title, piece.text)
            yield Passage(passage_id, piece.title, piece.text, document_id, position, source, metadata)


def _key(passage_id: str) -> int:
    return int(content_id(passage_id), 16)


def _cut(title: str, text: str, document_id: str, source: str, max_words: int) -> Iterator[Passage]:
    for position, piece in enumerate(split_text(text, max_words)):
        yield Passage(content_id(title, piece), title, piece, document_id, position, source)


def _up_to_failure(name: str, documents: _Documents) -> _Documents:
    """Yield documents; what breaks their reader costs those that would follow, and a file of none is told of."""
    is_empty = True
    try:
        for document in documents:
            is_empty = False
            yield document
    except Exception as failure:
        if stops_run(failure):
            raise
        is_empty = False
        yield name, failing(failure)
    if is_empty:
        yield name, failing(UnreadableDocumentError("no text", "holds nothing", has_failed=False))


def _reason_for(failure: Exception) -> tuple[str, str, bool]:
    """Return what a skipped document is counted under, what was wrong with it, and whether it failed."""
    match failure:
        case UnreadableDocumentError():
            return failure.reason, str(failure), failure.has_failed
        case CorpusError():
            return "malformed row", str(failure), True
        case OSError():
            return "cannot be opened", str(failure), True
    return f"breaks its parser ({type(failure).__name__})", reason_of(failure), True


def _is_known(file: Path) -> bool:
    is_table = table_ending(file) in TABLE_READERS
    return is_table or _is_document(file) or file.name.lower().endswith((*DUMP_SUFFIXES, *ARCHIVE_SUFFIXES))


def _is_document(file: Path) -> bool:
    return file.suffix.lower() in DOCUMENT_PARSERS


def _name(path: Path) -> str:
    """Return a path as text; bytes of it that are not UTF-8 are written out."""
    return os.fsencode(path.as_posix()).decode(errors="backslashreplace")
