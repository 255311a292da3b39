"""The base of every settings class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ("Settings",)


class Settings(BaseModel):
    """Typed, frozen settings of one room; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _complete_groups(cls, data: Any) -> Any:
        """Give a group that is told in part the rest as this class has it by default, not as the group's own does."""
        if not isinstance(data, Mapping):
            return data
        groups = {
            name: {**field.default.model_dump(exclude_unset=True), **data[name]}
            for name, field in cls.model_fields.items()
            if isinstance(field.default, Settings) and isinstance(data.get(name), Mapping)
        }
        return {**data, **groups}
