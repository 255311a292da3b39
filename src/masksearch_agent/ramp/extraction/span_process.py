"""spaCy in a process of its own, some batches of passages ahead of whoever takes their spans.

spaCy runs on one core and holds Python's lock while it does. In a process of its own it leaves the other cores to what
is done with the spans, above all to looking them up. Spans, their order and the batches are those of
`SpacySpanExtractor` in this process, so nothing depends on how fast either side is; no more than `_AHEAD` batches
are in flight, so memory stays flat.

torch, which embeds the queries, gives one core up to it meanwhile. Where one of torch's threads has to wait for a core,
the others spin until it gets one: with as many threads as cores and something else to run, embedding takes many times
its processor time.

The two speak in lines of JSON: the titles and texts of a batch in, their spans out. The process is started as a module
and not by `multiprocessing`, which would run the caller's script again. It ends with its input, that is at the latest
when this process does, however that ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass
from itertools import islice
from typing import IO, Any

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.errors import MissingExtraError, TaskError
from masksearch_agent.failures import reason_of
from masksearch_agent.ramp.extraction.spacy_spans import SpacySpanExtractor
from masksearch_agent.ramp.spans import CarefulExtractor, PassagesWithSpans, Span
from masksearch_agent.records import Passage

__all__ = ("SpacyProcess",)

_AHEAD = 4
"""Batches in flight: the caller takes some at once and then works on them for as long as the next ones take."""

_Found = list[tuple[Span, ...] | str]
"""Of each passage its spans, or why it cannot be read."""


@dataclass(frozen=True)
class SpacyProcess:
    """Finds what `SpacySpanExtractor` finds with the same arguments, ahead of the caller."""

    batch_size: int = 128
    settings: RampSettings | None = None
    on_failure: Callable[[Passage, Exception], None] | None = None
    """Called with each passage that spaCy cannot read, which is then left out; None raises."""

    def extract(self, passages: Iterable[Passage]) -> PassagesWithSpans:
        """Yield each passage with its spans, in order. The process lives as long as the iterator does.

        Raises:
            MissingExtraError: If spaCy or its model is not installed.
            TaskError: If the process was ended by somebody else.
        """
        stream = iter(passages)
        pending: deque[tuple[tuple[Passage, ...], Future[_Found]]] = deque()
        process = _start(self.batch_size, self.settings or RampSettings(spans="entities"))
        # Asks one batch after the other: a pipe holds less than a batch, so asking from here would wait for the reply.
        courier = ThreadPoolExecutor(1, thread_name_prefix="masksearch-spans")
        torch_threads = 0
        try:
            while True:
                torch_threads = torch_threads or _give_torch_core_up()
                while len(pending) < _AHEAD and (batch := tuple(islice(stream, self.batch_size))):
                    pending.append((batch, courier.submit(_ask, process, batch)))
                if not pending:
                    return
                batch, found = pending.popleft()
                for passage, spans in zip(batch, found.result(), strict=True):
                    if not isinstance(spans, str):
                        yield passage, spans
                        continue
                    failure = TaskError(f"spaCy failed: {spans}")
                    if self.on_failure is None:
                        raise failure
                    self.on_failure(passage, failure)
        finally:
            if torch_threads:
                sys.modules["torch"].set_num_threads(torch_threads)
            process.kill()
            courier.shutdown(cancel_futures=True)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
            process.wait()


def _give_torch_core_up() -> int:
    """Let torch use one thread less; return how many it used, 0 before a search, which embeds with it, loads it.

    bfloat16 vectors of MiniLM are the same to the last bit for any number of them; float32 ones, of a CPU without
    bfloat16, may differ there from those of a machine with another number of cores, as ever.
    """
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "set_num_threads"):
        return 0
    before = int(torch.get_num_threads())
    torch.set_num_threads(max(1, before - 1))
    return before


def _start(batch_size: int, settings: RampSettings) -> subprocess.Popen[bytes]:
    # -P: a file of the working directory must not pass for one of the modules that are imported.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, str(batch_size), settings.model_dump_json()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _ask(process: subprocess.Popen[bytes], batch: tuple[Passage, ...]) -> _Found:
    if process.stdin is None or process.stdout is None:
        raise TaskError("the process that runs spaCy has no pipes")
    try:
        _send([(passage.title, passage.text) for passage in batch], process.stdin)
        line = process.stdout.readline()
    except OSError:
        line = b""
    if not line.endswith(b"\n"):
        raise TaskError(
            f"the process that runs spaCy ended with status {process.wait()}; it may have run out of memory "
            "(a negative status is the number of the signal that ended it)"
        ) from MemoryError("of the process that runs spaCy")  # No passage's fault: it stops the run.
    reply: dict[str, Any] = json.loads(line)
    if "missing" in reply:
        raise MissingExtraError(*reply["missing"])
    if "failure" in reply:
        raise TaskError(f"spaCy failed: {reply['failure']}")
    return [of if isinstance(of, str) else tuple(Span(*span) for span in of) for of in reply["spans"]]


def _serve(batch_size: int, settings: RampSettings) -> None:
    """Answer each line of texts on the standard input on the standard output, until the input ends."""
    # Ctrl-C reaches both processes; the caller's decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints must not get among the replies.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    extractor: SpacySpanExtractor | None = None
    with suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            reply: dict[str, Any]
            try:
                extractor = extractor or SpacySpanExtractor(batch_size, settings)
                reply = {"spans": _read_batch(extractor, json.loads(line))}
            except MissingExtraError as failure:
                reply = {"missing": [failure.package, failure.extra]}
            except Exception as failure:  # noqa: BLE001 - raised again where the caller waits
                reply = {"failure": f"{type(failure).__name__}: {failure}"}
            _send(reply, replies)


def _read_batch(extractor: SpacySpanExtractor, batch: list[tuple[str, str]]) -> list[Any]:
    """Return what is sent of each passage; see `_Found`."""
    passages = [Passage(str(place), title, text) for place, (title, text) in enumerate(batch)]
    reply: dict[str, Any] = {}

    def note(passage: Passage, failure: Exception) -> None:
        reply[passage.id] = reason_of(failure)

    for passage, spans in CarefulExtractor(extractor, note).extract(passages):
        reply[passage.id] = list(map(astuple, spans))
    return [reply[passage.id] for passage in passages]


def _send(what: object, pipe: IO[bytes]) -> None:
    pipe.write(json.dumps(what).encode() + b"\n")
    pipe.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), RampSettings.model_validate_json(sys.argv[2]))
