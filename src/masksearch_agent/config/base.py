"""The base of every settings class."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ("Settings",)


class Settings(BaseModel):
    """Typed, frozen settings of one room; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
