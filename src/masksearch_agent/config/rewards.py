"""Settings of the rewards room."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from masksearch_agent.config.base import Settings
from masksearch_agent.config.judging import JudgeSettings
from masksearch_agent.plugins import REWARDS

__all__ = ("RewardSettings",)


class RewardSettings(Settings):
    """The mix `R = format_weight · R_format + answer_weight · R_answer + R_length`."""

    format_weight: float = Field(default=0.1, ge=0)
    """Small on purpose: it tells malformed rollouts from well-formed ones while no answer is right yet, and
    is worth less than one more recalled token of an answer of up to nine."""
    answer_weight: float = Field(default=1.0, ge=0)
    """The unit in which the other two parts are expressed."""
    answer: Annotated[str, AfterValidator(REWARDS.check)] = "recall"
    """`recall` is safe for RAMP, where every mask has its own fill. A question invites listing candidates,
    which recall pays for and the penalty does not (MaskSearch, arXiv 2505.20285). `judge` asks a second model, which
    did best in the paper. `exact_match` is its 0 or 1 without a model, where a right answer can be said in one way only
    (Search-R1, arXiv 2503.09516). Packages and applications bring others (`plugins.REWARDS`)."""
    judge: JudgeSettings | None = None
    """The model behind `answer: judge`."""
    overlong_max_tokens: int | None = Field(default=None, ge=1)
    """Sampled tokens of a trajectory at which the overlong punishment reaches -1; None: length is not punished."""
    overlong_cache_tokens: int = Field(default=256, ge=0)
    """The punishment sets in this many tokens before the maximum. DAPO takes a fifth of it (arXiv 2503.14476,
    section 3.4)."""

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.answer == "judge" and self.judge is None:
            raise ValueError("answer is 'judge' but no judge is named; set `judge: {model: provider:name}`")
        if self.overlong_max_tokens is not None and self.overlong_cache_tokens > self.overlong_max_tokens:
            raise ValueError(
                f"overlong_cache_tokens ({self.overlong_cache_tokens}) exceeds overlong_max_tokens "
                f"({self.overlong_max_tokens}); a fifth of it is usual"
            )
        return self
