"""Parsers in a process of their own, so that a file that hangs, crashes or eats memory costs that file.

A parser in C cannot be interrupted and may take the interpreter with it; a process can be ended. It is asked one
document at a time, started with the first one and again after one that ended it. The two speak in lines of JSON, each
request followed by the bytes of the document. The process is started as a module and not by `multiprocessing`, which
would run the caller's script again; it ends with its input, that is at the latest when this process does.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

from masksearch_agent.corpus.documents import DOCUMENT_PARSERS
from masksearch_agent.corpus.pages import Document
from masksearch_agent.corpus.splitting import Piece, split_document
from masksearch_agent.corpus.wikipedia import read_wikitext
from masksearch_agent.errors import MissingExtraError, UnreadableDocumentError, needs_extra
from masksearch_agent.failures import reason_of

__all__ = ("ParserProcess",)

_MAX_MEMORY_BYTES = 8 << 30
_OLE, _ENCRYPTED = b"\xd0\xcf\x11\xe0", "EncryptedPackage".encode("utf-16-le")
"""How an office file with a password begins, and what is in it."""
_MAX_WAIT = 10
"""Times as long as a document may take of the processor's time, it may take by the clock."""


@dataclass
class ParserProcess:
    """Reads documents, one after the other.

    Args:
        max_seconds: What one document may take of the processor's time, so that a busy machine loses none.
        max_words: Longest passage.
    """

    max_seconds: float
    max_words: int
    _process: subprocess.Popen[bytes] | None = None

    def read(
        self,
        kind: str,
        raw: bytes,
        name: str,
        encoding: str,
        max_unpacked_bytes: int,
        leave_out: Callable[[str], object] = lambda _: None,
    ) -> list[Piece]:
        """Return the passages of a document.

        Args:
            kind: Its file name ending, or `wikitext`.
            raw: Its bytes.
            name: Its title where it has none.
            encoding: Of a text file; empty where it is to be found.
            max_unpacked_bytes: Limit on what a packed file holds (an office file, a book).
            leave_out: Hears the name of each file in it that is not read.

        Raises:
            UnreadableDocumentError: It cannot be read, or not in time.
            MissingExtraError: The parser is not installed.
        """
        process = self._process = self._process or _start()
        request = {"kind": kind, "name": name, "encoding": encoding, "unpacked": max_unpacked_bytes}
        request |= {"words": self.max_words, "seconds": self.max_seconds, "size": len(raw)}
        line = b""
        with suppress(OSError):  # It ended before it has read everything.
            process.stdin.writelines([json.dumps(request).encode(), b"\n", raw])  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            line = process.stdout.readline()  # type: ignore[union-attr]
        if not line.endswith(b"\n"):
            status = self.close()
            if status in (-signal.SIGPROF, -signal.SIGALRM):
                raise UnreadableDocumentError(
                    "takes too long", f"took longer than {self.max_seconds:g} s to read"
                )
            raise UnreadableDocumentError("crashes its parser", f"its parser ended with status {status}")
        reply = json.loads(line)
        if "missing" in reply:
            raise MissingExtraError(*reply["missing"])
        if "unreadable" in reply:
            raise UnreadableDocumentError(*reply["unreadable"])
        for each in reply["left_out"]:
            leave_out(each)
        return [Piece(title, text, tuple(path), *others) for title, text, path, *others in reply["pieces"]]

    def close(self) -> int:
        """End the process; return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        return process.wait()


def _start() -> subprocess.Popen[bytes]:
    # -P: a file of the working directory must not pass for one of the modules that are imported.
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()  # type: ignore[union-attr]  # It is ready: the time to start is no document's.
    return process


def _serve() -> None:
    """Answer each request on the standard input on the standard output, until the input ends."""
    # Ctrl-C reaches both processes; the caller's decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints must not get among the replies.
    replies: IO[bytes] = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.disable()
    with suppress(ImportError, ValueError, OSError):  # Not everywhere can memory be limited.
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    with suppress(BrokenPipeError):
        replies.write(b"\n")
        replies.flush()
        for line in sys.stdin.buffer:
            request = json.loads(line)
            raw = sys.stdin.buffer.read(request["size"])
            # They end the process, whatever it is in, and whether or not anybody still waits for it.
            signal.setitimer(signal.ITIMER_PROF, request["seconds"])
            signal.setitimer(signal.ITIMER_REAL, _MAX_WAIT * request["seconds"])
            reply = _reply_to(request, raw)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            replies.write(json.dumps(reply).encode() + b"\n")
            replies.flush()


def _reply_to(request: dict[str, Any], raw: bytes) -> dict[str, Any]:
    try:
        read = _parse(request, raw)
        mended = [(tuple(map(_mend, path)), _mend(text)) for path, text in read.sections]
        document = read._replace(title=_mend(read.title), sections=mended)
        pieces = list(split_document(document, request["name"], request["words"]))
        return {"pieces": pieces, "left_out": read.left_out}
    except MissingExtraError as failure:
        return {"missing": [failure.package, failure.extra]}
    except UnreadableDocumentError as failure:
        return {"unreadable": [failure.reason, str(failure), failure.has_failed]}
    except MemoryError:
        return {"unreadable": ["takes too much memory", "its parser ran out of memory"]}
    except Exception as failure:  # noqa: BLE001 - whatever a parser raises is the document's own
        reason = f"broken {request['kind'].lstrip('.')}"
        return {"unreadable": [reason, f"its parser cannot read it ({reason_of(failure)})"]}


def _parse(request: dict[str, Any], raw: bytes) -> Document:
    if request["kind"] == "wikitext":
        return Document("", [((), read_wikitext(raw))])
    if raw.startswith(_OLE) and _ENCRYPTED in raw:
        raise UnreadableDocumentError("password", "needs a password")
    if zipfile.is_zipfile(BytesIO(raw)):
        with zipfile.ZipFile(BytesIO(raw)) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size > request["unpacked"]:
            detail = f"holds {size:,} bytes unpacked (corpus.max_file_bytes)"
            raise UnreadableDocumentError("too large", detail)
    return DOCUMENT_PARSERS[request["kind"]](raw, request["encoding"])


def _mend(text: str) -> str:
    """Return a text as it was before it was decoded wrongly, where that shows: `Müller` for `MÃ¼ller`."""
    if text.isascii():
        return text
    with needs_extra("corpus"):
        import ftfy
    return str(ftfy.fix_encoding(text)) if ftfy.is_bad(text) else text


if __name__ == "__main__":
    _serve()
