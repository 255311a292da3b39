from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from masksearch_agent.errors import ConfigError
from masksearch_agent.files import holding

_HOLD = """
import sys
from pathlib import Path
from masksearch_agent.files import holding
with holding(Path(sys.argv[1]), is_folder=sys.argv[2] == "folder"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_another_process_holds_is_refused_until_it_ends(tmp_path: Path, kind: str) -> None:
    path, is_folder = tmp_path / "runs" / "qwen2.5", kind == "folder"
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    told = f"another process is writing to {path}; wait for it to end"
    with pytest.raises(ConfigError, match=told), holding(path, is_folder):
        pass
    other.kill()
    other.communicate()
    with holding(path, is_folder), holding(path, is_folder):
        pass
    assert [entry.name for entry in (tmp_path / "runs").iterdir()] == (["qwen2.5"] if is_folder else [])


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
