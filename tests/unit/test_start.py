from __future__ import annotations

import subprocess
import sys

INTERRUPTED = """
import runpy, sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "masksearch_agent.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
runpy.run_module("masksearch_agent", run_name="__main__")
"""


def test_ctrl_c_while_the_command_line_is_imported_ends_without_a_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_the_module_is_the_command() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "masksearch_agent", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "quickstart" in told.stdout
