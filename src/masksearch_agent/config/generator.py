"""Settings of the trajectory generator."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from masksearch_agent.config.base import Settings
from masksearch_agent.config.calls import ChatModelSettings
from masksearch_agent.config.judging import JudgeSettings

__all__ = ("GeneratorSettings", "RoleModels")


class RoleModels(Settings):
    """Chat models for single roles; None leaves a role to `GeneratorSettings.model`."""

    planner: ChatModelSettings | None = None
    rewriter: ChatModelSettings | None = None
    observer: ChatModelSettings | None = None
    judge: JudgeSettings | None = None


class GeneratorSettings(Settings):
    """Who plays the generator's roles, how it searches and how many tasks it works on at once."""

    model: ChatModelSettings | None = None
    """Plays every role that `roles` does not name. None, without `roles`: the hindsight teacher, which needs no
    model."""
    roles: RoleModels = RoleModels()
    judge: Literal["rule", "model", "both"] = "rule"
    """`rule` compares with the expected answer and the passages; `model` asks a chat model instead, and `both`
    accepts what both accept."""
    max_repairs: int = Field(default=2, ge=0, le=2)
    """How often a role is told what is wrong with its reply before the trajectory is rejected. A judge
    named in `roles` has its own."""
    max_failures_in_a_row: int = Field(default=20, ge=1)
    """Tasks that may fail one after the other, because a service does, before the run stops. A failed task is tried
    again by `masksearch generate --retry-failed`."""

    max_rounds: int = Field(default=5, ge=1)
    """Search rounds of a trajectory; the paper takes 5."""
    needs_per_round: int = Field(default=1, ge=1)
    """Masks of a RAMP task that the hindsight teacher looks up in one round."""
    attempts_per_need: int = Field(default=2, ge=1)
    """Queries that the hindsight teacher tries before it gives a need up."""
    quote_support: bool = False
    """Whether the hindsight teacher copies the sentence that gives an answer, instead of naming the need and the
    answer: finding that sentence is the same skill for a mask and for a question. The sentence itself, not its passage,
    then has to share half of the query's words. Where the evidence of a question is known, it is quoted with this, and
    thoughts are empty without it."""
    fewer_passages: tuple[float, ...] = ()
    """Shares of the tasks whose searches show one passage, two passages and so on, where the agent is shown more: such
    rows are short, so that more questions are read about in as many tokens. What they leave of 1 shows what the agent
    is shown. Drawn by the task and the seed."""
    concurrency: int = Field(default=64, ge=1)
    """Tasks in flight at once."""
    seed: int = 0

    @model_validator(mode="after")
    def _check_shares(self) -> GeneratorSettings:
        # So written that it holds for no NaN.
        if not (all(share >= 0 for share in self.fewer_passages) and sum(self.fewer_passages) <= 1 + 1e-9):
            raise ValueError("fewer_passages are shares of all tasks: none below 0, at most 1 together")
        return self
