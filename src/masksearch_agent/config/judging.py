"""Settings of the judge."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from masksearch_agent.config.calls import ChatModelSettings

__all__ = ("JudgeSettings",)

_EARLIER_KEYS = frozenset({"options", "max_attempts", "first_wait_s"})


class JudgeSettings(ChatModelSettings):
    """A second chat model that says whether an answer is right; `model` may be a checkpoint folder too.

    The paper's judge was Qwen2.5-72B-Instruct.
    """

    temperature: float | None = Field(default=0.0, ge=0)
    """0 for verdicts that repeat; None leaves the provider's default."""
    strict: bool = False
    """FreshEval's strict mode: what an answer adds has to be accurate and up to date too."""
    max_repairs: int = Field(default=2, ge=0)
    """How often the judge is told what is wrong with its reply before the answer is left without a verdict."""

    @model_validator(mode="before")
    @classmethod
    def _read_earlier_keys(cls, data: Any) -> Any:
        """Read recipes of earlier runs, whose judge had `options`, `max_attempts` and `first_wait_s`."""
        if not isinstance(data, dict) or _EARLIER_KEYS.isdisjoint(data):
            return data
        options = dict(data.get("options") or {})
        waits = {"timeout_s": options.pop("timeout", None), "first_wait_s": data.get("first_wait_s")}
        read = options | {key: value for key, value in data.items() if key not in _EARLIER_KEYS}
        read["calls"] = {key: value for key, value in waits.items() if value} | dict(data.get("calls") or {})
        if "max_attempts" in data:
            # A string, as a command line or a template leaves it, was read too; no number is an error of its key.
            read["max_repairs"] = int(data["max_attempts"] or 0) - 1
        return read
