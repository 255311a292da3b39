"""Settings and fixtures that all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from fakes.command_line import CommandLine

# Set before any test imports a library that reads them: tests never download and never report home.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ANONYMIZED_TELEMETRY"] = "False"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# A deadline per example measures the machine's load and not the code.
settings.register_profile("masksearch", deadline=None)
settings.load_profile("masksearch")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of sample datasets, or skip the test where there is none."""
    beside_repository = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("MASKSEARCH_DATA", beside_repository)).resolve()
    if not folder.is_dir():
        pytest.skip(f"no sample data at {folder}; set MASKSEARCH_DATA to its folder")
    return folder


@pytest.fixture
def run(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    """Return the command line, which runs in a folder of the test's own."""
    from fakes.command_line import make_command_line

    monkeypatch.chdir(tmp_path)
    return make_command_line(capsys, monkeypatch)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """Return a small real tokenizer; do not change it."""
    pytest.importorskip("transformers")
    from fakes.tiny_models import make_test_tokenizer

    return make_test_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: Any) -> Any:
    """Return a small real model of random weights; do not change it."""
    pytest.importorskip("torch")
    from fakes.tiny_models import make_test_model

    return make_test_model(tiny_tokenizer)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Have SIGINT mean what it means on a terminal: a shell that starts tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
