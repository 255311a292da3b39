"""Cells of tables as the text that they mean."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from masksearch_agent.errors import CorpusError
from masksearch_agent.text.cleaning import clean_text

__all__ = ("as_text",)


def as_text(value: object) -> str:
    """Return a cell as text: nothing for null and not-a-number, `7` for 7.0, `2024-05-01`, `36:00:00` for 36 hours.

    Raises:
        CorpusError: It is a list or a dictionary.
    """
    if value is None or (isinstance(value, float | Decimal) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float | Decimal):
        return str(int(value)) if math.isfinite(value) and value == int(value) else str(value)
    if isinstance(value, datetime) and value.time() == time.min:
        return value.date().isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        seconds = round(abs(value.total_seconds()))
        sign = "-" if value < timedelta() else ""
        return f"{sign}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, bytes):
        return clean_text(value.decode(errors="replace"))
    raise CorpusError(f"is a {type(value).__name__}; expected text")
