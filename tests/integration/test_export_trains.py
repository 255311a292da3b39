"""An exported dataset folder goes into `trl sft` as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")
pytest.importorskip("pyarrow")

from masksearch_agent.lab.tiny import tiny_base_path
from masksearch_agent.records import Message, Trajectory, Turn
from masksearch_agent.traces.export import ExportFormat, export_dataset
from masksearch_agent.traces.store import TraceStore


def trajectory(number: int) -> Trajectory:
    asked = (Message("system", "Search."), Message("user", "Who leads Aldin?"))
    told = (Message("user", "<information>\n[1] The mayor of Aldin is Ada Holt.\n</information>"),)
    turns = (
        Turn("0", None, "policy", asked, "<think></think><search> mayor of Aldin</search>"),
        Turn("1", "0", "policy", told, "<think></think><answer> Ada Holt</answer>"),
    )
    return Trajectory(f"id{number}", f"task{number}", turns, "Ada Holt", "answered", accepted=True)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_trl_sft_trains_on_the_folder(tmp_path: Path, file_format: ExportFormat) -> None:
    with TraceStore(tmp_path / "traces.sqlite") as store:
        store.add_many(map(trajectory, range(4)), "ramp")
        export_dataset(store, tmp_path / "data", file_format)
    command = [
        *(sys.executable, "-m", "trl.scripts.sft", "--model_name_or_path", str(tiny_base_path())),
        *(
            "--dataset_name",
            str(tmp_path / "data"),
            "--output_dir",
            str(tmp_path / "out"),
            "--max_steps",
            "1",
        ),
        *(
            "--per_device_train_batch_size",
            "2",
            "--use_cpu",
            "True",
            "--bf16",
            "False",
            "--report_to",
            "none",
        ),
    ]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | offline, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out" / "model.safetensors").is_file()
