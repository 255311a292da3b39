"""Settings of self-evolution."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from masksearch_agent.config.base import Settings

__all__ = ("EvolutionSettings",)


class EvolutionSettings(Settings):
    """Rounds of training on what the last round's student found out itself. Who teaches the first round, and who
    judges, is the generator's; how a round trains is `ramp_sft`."""

    max_rounds: int = Field(default=3, ge=1)
    """Rounds at most, the teacher's included."""
    patience: int = Field(default=1, ge=1)
    """Rounds in a row without a new best recall after which it stops."""
    min_rise: float = Field(default=0.0, ge=0, lt=1)
    """What recall has to exceed the best so far by, to be a new best."""
    teacher_tasks: int = Field(default=300, gt=0)
    """Tasks of the first round, which the teacher works on."""
    tasks_per_round: int = Field(default=1000, gt=0)
    """New tasks of each later round, which the student works on."""
    samples_per_task: int = Field(default=4, gt=0)
    """Attempts of the student at a task, the last one the first that the judge accepts (rejection sampling)."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of these attempts."""
    start_from: Literal["base", "student"] = "base"
    """What a round trains: the base model anew, so that early mistakes are not carried along, or the last student."""
    validation_tasks: int = Field(default=200, gt=0)
    """Held-out tasks whose recall says when to stop and which round was best."""
    test_tasks: int = Field(default=400, gt=0)
    """Other held-out tasks, on which every round is reported: no decision rests on them."""
