"""What the training stages share: from bundle to bundle, with the chain of stages kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from masksearch_agent.agent.bundle import BundleInfo
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.trainers import DAPOSettings, SFTSettings
from masksearch_agent.environment import is_first_process, package_versions
from masksearch_agent.evaluation.sources import read_tasks
from masksearch_agent.files import holding
from masksearch_agent.models.recording import RecordingChatModel
from masksearch_agent.records import SearchTask
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.base import index_of_bundle
from masksearch_agent.stages.evaluation import Asked
from masksearch_agent.stages.stage import Site, Spent

if TYPE_CHECKING:
    from masksearch_agent.trainers.monitor import Monitor
    from masksearch_agent.trainers.weight_sync import WeightSync

__all__ = (
    *("ExamTasks", "Listener", "exam_of", "monitor_of", "next_info", "spent_of", "training_dtype"),
    "working_in",
)

Listener = Callable[[int, int, dict[str, float]], None]
"""Called with the step, the number of all steps and the metrics."""


@dataclass(frozen=True, slots=True)
class ExamTasks:
    """What a stage is examined on while it trains."""

    tasks: Sequence[SearchTask]
    search: Search
    """What they are answered from."""


@contextmanager
def working_in(directory: Path) -> Iterator[None]:
    """Keep other runs out of the folder of a training; of several ranks, the first one does.

    Raises:
        ConfigError: Another process trains there.
    """
    with holding(directory, is_folder=True) if is_first_process() else nullcontext():
        yield


def exam_of(asked: Asked | None, site: Site) -> ExamTasks | None:
    """Return the exam of a stage, opened; None where it has none."""
    if asked is None:
        return None
    return ExamTasks(list(read_tasks(site.where(asked.questions))), site.search(asked.searched))


def monitor_of(
    settings: SFTSettings | DAPOSettings,
    exam: ExamTasks | None,
    sampler: RecordingChatModel | None,
    info: BundleInfo,
    weight_sync: WeightSync | None = None,
) -> Monitor:
    """Return what watches a stage.

    Args:
        exam: None only watches what is logged, as it does where the settings have no `monitor`.
        sampler: Samples from the weights that are trained; None where there is no exam.
        info: The agent whose limits and prompts the exam is done with.
        weight_sync: Brings the weights to the sampler; None where they are shared.
    """
    from masksearch_agent.trainers.exam import Exam
    from masksearch_agent.trainers.monitor import Monitor

    updates = settings.updates_per_rollout if isinstance(settings, DAPOSettings) else 1
    if settings.monitor is None or exam is None or sampler is None:
        return Monitor(settings.monitor, None, updates)
    tasks = list(exam.tasks)
    if len(tasks) > settings.monitor.tasks:
        # The same ones in every stage of a run, whatever its seed, so that stages can be compared.
        tasks = random.Random("exam").sample(tasks, settings.monitor.tasks)
    # A server cannot hold answers; then the exam is one of free ones.
    is_held = info.agent.answers_from_passages and sampler.can_hold_answers
    limits = info.agent.model_copy(update={"answers_from_passages": is_held})
    agent = MaskSearchAgent(sampler, exam.search, limits, info.prompts)
    return Monitor(settings.monitor, Exam(agent, tasks, weight_sync), updates)


def training_dtype(settings: SFTSettings | DAPOSettings) -> Literal["auto", "float32"]:
    """Return what weights are held in: a step of a usual size is lost in bfloat16's rounding.

    Adapters are float32 whatever the weights under them are, so those stay as they were saved.
    """
    return "auto" if settings.lora_rank else "float32"


def next_info(
    info: BundleInfo,
    source: Path,
    directory: Path,
    label: str,
    settings: SFTSettings | DAPOSettings,
    index: Path | None,
    mixed: Mapping[str, int],
) -> BundleInfo:
    """Describe the bundle in `directory` that a stage made of another, `source`.

    Args:
        label: What the stage is called in the model version and the provenance.
        index: Index that the new agent searches by default; None for that of the source.
        mixed: See `Spent`.
    """
    done = {
        "stage": label,
        "settings": settings.model_dump(mode="json"),
        **({"mixed": mixed} if mixed else {}),
    }
    if index is None and info.index:
        index = source / info.index
    return info.model_copy(
        update={
            "model_version": f"{info.model_version.split('/')[0]}/{label}",
            "index": index_of_bundle(index, directory) if index is not None else "",
            "provenance": {
                **info.provenance,
                "parent": source.name,
                "stages": [*info.provenance.get("stages", []), done],
                "versions": package_versions(),
            },
        }
    )


def spent_of(metrics: list[dict[str, float]], mixed: Mapping[str, int], monitor: Monitor) -> Spent:
    """Return what the entries of a metrics file say of a stage's cost, what it was spent on, and what was noted."""
    steps = max((int(entry["step"]) for entry in metrics), default=0)
    tokens = max((int(entry["num_tokens"]) for entry in metrics if "num_tokens" in entry), default=0)
    return Spent(steps, tokens, mixed, monitor.seconds, monitor.notes)
