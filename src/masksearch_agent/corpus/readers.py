"""Read passages from datasets and from folders of documents, one at a time.

Three kinds of input meet here. A *table* has rows: passages already, which stay whole, or documents. A
*document* and a page of a Wikipedia *dump* are cut into passages at paragraph and sentence ends. What cannot
be read is reported with its reason and skipped, and the rest goes on.

Invariant: the same input gives the same passages with the same ids, in the same order, each once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.corpus.documents import DOCUMENT_PARSERS, require_parser
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.corpus.rows import passages_from_row
from masksearch_agent.corpus.splitting import split_text
from masksearch_agent.corpus.tables import TABLE_READERS, Row, read_hf_dataset, table_ending
from masksearch_agent.corpus.wikipedia import DUMP_SUFFIXES, WikipediaPage, read_dump
from masksearch_agent.errors import CorpusError, UnreadableDocumentError
from masksearch_agent.failures import reason_of, stops_run
from masksearch_agent.records import Passage, content_id

__all__ = ("read_passages",)

_Document = tuple[str, Callable[[], Iterable[Passage]]]
"""Where a document stands, and a function that reads it or raises a `CorpusError`."""

_DATASET_PREFIX = "hf:"


def read_passages(
    source: Path | str, settings: CorpusSettings | None = None, report: CorpusReport | None = None
) -> Iterator[Passage]:
    """Stream the passages of a file, a folder or a dataset.

    Args:
        source: A table (`.jsonl`, `.jsonl.gz`, `.json`, `.csv`, `.tsv`, `.parquet`) of passages (our own records,
            `{title, text}`, FlashRAG `{id, contents}`), of questions that ship theirs (`benchmarks`), or
            of documents in the column that the settings name; a Wikipedia dump (`.xml.bz2`, `.xml.gz`,
            `.xml`); a document (`.txt`, `.md`, `.html`, `.pdf`); a folder of documents or, where it has
            none, of tables and dumps, read recursively in the order of their paths; or a Hugging Face
            dataset, `hf:owner/name@config:split`. A `.json` list and a document are held in memory while
            they are read; nothing else is.
        settings: How documents are cut, and which columns are read; the defaults where None.
        report: Counts what is read, kept and skipped, and why; added to while iterating.

    Returns:
        The passages, without repetitions. Passages without text are left out.

    Raises:
        CorpusError: At once where the path is missing or of an unknown format, at the end where there was no
            passage at all.
        MissingExtraError: If the parser of a format that occurs is not installed.
    """
    settings = settings or CorpusSettings()
    report = CorpusReport() if report is None else report
    if str(source).startswith(_DATASET_PREFIX):
        name = str(source).removeprefix(_DATASET_PREFIX)
        documents = _of_rows(read_hf_dataset(name), name, settings)
        return _distinct(documents, str(source), report)
    path = Path(source)
    if path.is_dir():
        return _distinct(_of_folder(path, settings, report), str(path), report)
    if not path.exists():
        raise CorpusError(f"no corpus at {path}; give the path of a file or a folder that exists")
    if not _is_known(path):
        known = ", ".join([*TABLE_READERS, *DUMP_SUFFIXES, *DOCUMENT_PARSERS])
        raise CorpusError(
            f"cannot read {path}: unknown format {path.suffix!r}; expected a folder or one of {known}"
        )
    return _distinct(_of_file(path, path.parent, settings), str(path), report)


def _distinct(documents: Iterator[_Document], source: str, report: CorpusReport) -> Iterator[Passage]:
    # 64 bits of each hash: a set of a million of them takes 100 MB, one of strings twice that.
    seen: set[int] = set()
    for where, read in documents:
        report.read += 1
        try:
            passages = [passage for passage in read() if passage.text.strip()]
        except UnreadableDocumentError as failure:
            report.skip(where, failure.reason, str(failure), failure.has_failed)
            continue
        except CorpusError as failure:
            report.skip(where, "malformed row", str(failure), has_failed=True)
            continue
        except Exception as failure:
            if stops_run(failure):
                raise
            report.skip(where, f"breaks its parser ({type(failure).__name__})", reason_of(failure), True)
            continue
        fresh = 0
        for passage in passages:
            key = int(content_id(passage.id, passage.title, passage.text), 16)
            if key not in seen:
                seen.add(key)
                fresh += 1
                report.passages += 1
                yield passage
        if fresh:
            report.kept += 1
        else:
            reason = "repeated" if passages else "no text"
            report.skip(where, reason, "its passages were all read before" if passages else "holds no text")
    if not seen:
        hint = f"the first of {report.skipped.total()} skipped: {report.examples[0]}" if report.examples else (
            f"a folder must hold {' or '.join(DOCUMENT_PARSERS)} files with text, a table at least one row "
            "with text"
        )  # fmt: skip
        raise CorpusError(f"found no passage in {source}; {hint}")


def _of_folder(folder: Path, settings: CorpusSettings, report: CorpusReport) -> Iterator[_Document]:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not _is_hidden(file, folder))
    documents = [file for file in files if file.suffix.lower() in DOCUMENT_PARSERS]
    chosen = documents or [file for file in files if _is_known(file)]
    # Half of a corpus without a word would be worse than none: a missing parser is found before the start.
    for suffix in sorted({file.suffix.lower() for file in chosen}):
        require_parser(suffix)
    for file in sorted(set(files) - set(chosen)):
        report.read += 1
        kind = file.suffix.lower() or "no suffix"
        report.skip(file.relative_to(folder).as_posix(), f"other format ({kind})", "not read as a document")
    for file in chosen:
        yield from _of_file(file, folder, settings)


def _of_file(file: Path, root: Path, settings: CorpusSettings) -> Iterator[_Document]:
    name = file.relative_to(root).as_posix()
    suffix = file.suffix.lower()
    if suffix in DOCUMENT_PARSERS:
        yield name, partial(_read_document, file, name, settings)
        return
    if table_ending(file) in TABLE_READERS:
        documents = _of_rows(TABLE_READERS[table_ending(file)](file), name, settings)
    else:
        documents = _of_pages(read_dump(file), name, settings)
    try:
        yield from documents
    except Exception as failure:
        is_of_file = not isinstance(failure, CorpusError) or isinstance(failure, UnreadableDocumentError)
        if stops_run(failure) or not is_of_file:
            raise
        yield name, partial(_fail, failure)


def _fail(failure: Exception) -> Iterable[Passage]:
    if isinstance(failure, OSError):
        raise UnreadableDocumentError("cannot be opened", str(failure)) from failure
    raise failure


def _of_rows(rows: Iterator[Row], name: str, settings: CorpusSettings) -> Iterator[_Document]:
    for where, read in rows:
        place = f"{name}, {where}"
        yield place, partial(_read_row, read, name, place, settings)


def _read_row(
    read: Callable[[], object], name: str, place: str, settings: CorpusSettings
) -> Iterable[Passage]:
    row = read()
    if not isinstance(row, dict):
        raise CorpusError(f"the row is a {type(row).__name__}; expected a dict")
    if not settings.text_column:
        return passages_from_row(row, name)
    text = _cell(row, settings.text_column)
    if text is None:
        raise UnreadableDocumentError(
            "no such column",
            f"has no column {settings.text_column!r}; its columns are {sorted(map(str, row))}",
        )
    title = _cell(row, settings.title_column) or ""
    return _cut(title, text, _cell(row, settings.id_column) or place, name, settings)


def _cell(row: dict[Any, Any], column: str) -> str | None:
    """Return a cell as text; None for one that is missing or empty of type."""
    value = row.get(column)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    raise UnreadableDocumentError(
        "not text", f"column {column!r} holds a {type(value).__name__}; expected text"
    )


def _of_pages(pages: Iterator[WikipediaPage], name: str, settings: CorpusSettings) -> Iterator[_Document]:
    for page_id, title, read_text in pages:
        yield f"{name}, {title}", partial(_read_page, read_text, title, page_id, name, settings)


def _read_page(
    read_text: Callable[[], str], title: str, page_id: str, name: str, settings: CorpusSettings
) -> Iterable[Passage]:
    return _cut(title, read_text(), page_id, name, settings)


def _read_document(file: Path, name: str, settings: CorpusSettings) -> Iterable[Passage]:
    try:
        raw = file.read_bytes()
    except OSError as failure:
        raise UnreadableDocumentError("cannot be opened", str(failure)) from failure
    title, text = DOCUMENT_PARSERS[file.suffix.lower()](raw, settings.encoding)
    return _cut(title or file.stem, text, name, name, settings)


def _cut(title: str, text: str, document_id: str, source: str, settings: CorpusSettings) -> Iterator[Passage]:
    for position, piece in enumerate(split_text(text, settings.max_words)):
        yield Passage(content_id(title, piece), title, piece, document_id, position, source)


def _is_known(file: Path) -> bool:
    is_table = table_ending(file) in TABLE_READERS
    return is_table or file.suffix.lower() in DOCUMENT_PARSERS or file.name.lower().endswith(DUMP_SUFFIXES)


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
