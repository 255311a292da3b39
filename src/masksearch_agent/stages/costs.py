"""What the chat models of a stage cost, in words."""

from __future__ import annotations

from typing import Any

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.jsonl import dump_record

__all__ = ("cost_of", "spent_text")


def spent_text(spending: Spending) -> str:
    """Return what was spent so far as the end of a progress note; empty where no model was called."""
    total = spending.total
    if not total.model_calls:
        return ""
    dollars = f", ${total.cost_usd:.2f}" if total.cost_usd else ""
    return f", {(total.prompt_tokens + total.sampled_tokens) / 1000:,.0f}k tokens{dollars}"


def cost_of(spending: Spending) -> dict[str, Any]:
    """Return what the chat models of this process cost, by role; nothing where none was called."""
    if not spending.by_role:
        return {}
    return {"cost": {role: dump_record(usage) for role, usage in sorted(spending.by_role.items())}}
