from __future__ import annotations

from pathlib import Path

from masksearch_agent.trainers.checkpoints import find_last_checkpoint


def make_checkpoint(directory: Path, name: str, state: str | None = "{}") -> Path:
    folder = directory / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    if state is not None:
        (folder / "trainer_state.json").write_text(state)
    return folder


def test_the_highest_step_is_the_newest(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "checkpoint-9")
    newest = make_checkpoint(tmp_path, "checkpoint-10")
    assert find_last_checkpoint(tmp_path) == str(newest)


def test_a_checkpoint_that_a_killed_process_left_unfinished_is_passed_over(tmp_path: Path) -> None:
    complete = make_checkpoint(tmp_path, "checkpoint-2")
    make_checkpoint(tmp_path, "checkpoint-4", state='{"global_step": ')
    make_checkpoint(tmp_path, "checkpoint-6", state=None)
    assert find_last_checkpoint(tmp_path) == str(complete)


def test_without_a_complete_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert find_last_checkpoint(tmp_path / "not there") is None
    make_checkpoint(tmp_path, "checkpoint-2", state=None)
    make_checkpoint(tmp_path, "checkpoint-best")
    assert find_last_checkpoint(tmp_path) is None
