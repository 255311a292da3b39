from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from fakes.holders import held_elsewhere

from masksearch_agent.errors import ConfigError
from masksearch_agent.files import FolderHold, holding, is_held, open_locked


@pytest.mark.parametrize("is_folder", [True, False])
def test_what_another_process_holds_is_refused_until_it_ends(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "runs" / "qwen2.5"
    told = f"another process is writing to {path}; wait for it to end"
    with (
        held_elsewhere(path, is_folder),
        pytest.raises(ConfigError, match=told),
        holding(path, is_folder),
    ):
        pass
    with holding(path, is_folder), holding(path, is_folder):
        pass
    assert [entry.name for entry in (tmp_path / "runs").iterdir()] == (["qwen2.5"] if is_folder else [])


def test_a_lock_whose_file_was_deleted_meanwhile_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock, opened = tmp_path / "results.jsonl", tmp_path / "results.jsonl.lock", []

    def open_as_its_holder_ends(*of: Any) -> int | None:
        opened.append(open_locked(*of))
        if len(opened) == 1:
            lock.unlink()
        return opened[-1]

    monkeypatch.setattr("masksearch_agent.files.open_locked", open_as_its_holder_ends)
    with holding(path), pytest.raises(BlockingIOError):
        open_locked(lock)
    assert len(opened) == 2


def test_threads_of_one_process_share_what_it_holds(tmp_path: Path) -> None:
    held: list[bool] = []

    def hold() -> None:
        with holding(tmp_path / "results.jsonl"):
            held.append(True)

    with holding(tmp_path / "results.jsonl"):
        thread = threading.Thread(target=hold)
        thread.start()
        thread.join(5)
        assert (tmp_path / "results.jsonl.lock").is_file()
    assert held == [True]
    assert not list(tmp_path.iterdir())


def test_a_folder_is_held_as_long_as_its_holder_lives(tmp_path: Path) -> None:
    first, second = FolderHold(tmp_path), FolderHold(tmp_path)
    del first
    assert is_held(tmp_path)
    del second
    assert not is_held(tmp_path)
