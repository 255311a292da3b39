"""What the agent is told: one set of prompts, kept in the agent bundle, so what was trained is what is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from masksearch_agent.config.agent import AnswerForm
from masksearch_agent.config.base import Settings

__all__ = (
    "COMPACT_PROMPTS",
    "FULL_PROMPTS",
    "TOOL_PROMPTS",
    "PromptSet",
    "choose_prompts",
    "default_prompts",
)


class PromptSet(Settings):
    """The texts that the environment puts before, between and after the model's steps."""

    question_system: str
    """System prompt for a question."""
    masks_system: str
    """System prompt for a RAMP task."""
    repair: str
    """Sent after a malformed step; `{problem}` says what was wrong."""
    force_answer: str
    """Sent when the search budget is spent."""

    def system_for(self, kind: str) -> str:
        """Return the system prompt for a kind of task (`ramp` or `qa`)."""
        return self.masks_system if kind == "ramp" else self.question_system


COMPACT_PROMPTS = PromptSet(
    question_system="Answer the question. Search until you know.",
    masks_system="Fill in every [mask], one numbered line each. Search until you know.",
    repair="{problem} Try again.",
    force_answer="No searches left. Answer now.",
)
"""For the tiny model, which learns what a prompt means from training alone: few tokens."""

_FORMAT = (
    "Think inside <think> and </think> first, every time. Then do exactly one of two things. If you lack knowledge, "
    "search: write one query per line between <search> and </search>; the results come back between <information> "
    "and </information>. You can search as many times as you need. Once you know enough, write the answer between "
    "<answer> and </answer>, and nothing after it."
)

_MASKS = (
    "The user's passage has facts replaced by [mask]. Find out every one of them with the help of a search engine. "
    f"{_FORMAT} In the answer {{answer}}"
)

FULL_PROMPTS = PromptSet(
    question_system=(
        f"Answer the user's question with the help of a search engine. {_FORMAT} Keep the answer short, for example "
        "<answer>Port Louis</answer>."
    ),
    masks_system=_MASKS.format(answer="give the text for each [mask], one numbered line each, in order."),
    repair="Your last message was malformed. {problem} Write the step again in the right form.",
    force_answer=(
        "You have no searches left. Think, then give your best answer between <answer> and </answer> now."
    ),
)
"""For language models that read instructions."""

_CALLS = (
    "Say in a sentence or two what you know and what you still need, then call `search`; you can search as many times "
    "as you need. Once you know enough, reply with the answer alone and call no tool."
)

TOOL_PROMPTS = PromptSet(
    question_system=f"Answer the user's question with the help of the `search` tool. {_CALLS} Keep the answer short.",
    masks_system=(
        "The user's passage has facts replaced by [mask]. Find out every one of them with the help of the `search` "
        f"tool. {_CALLS} In the answer give the text for each [mask], one numbered line each, in order."
    ),
    repair="{problem} Take the step again in the right form.",
    force_answer="You have no searches left. Reply with your best answer now and call no tool.",
)
"""For models with native tool calling."""


def default_prompts(dialect: Literal["tags", "tools"]) -> PromptSet:
    """Return the prompts of a dialect where the user brings none."""
    return TOOL_PROMPTS if dialect == "tools" else FULL_PROMPTS


_OTHER_FORMS: Mapping[AnswerForm, tuple[str, str]] = {
    "bare_fills": (
        "Fill in every [mask], one line each. Search until you know.",
        "give the text for each [mask], one line each, in order.",
    ),
    "passage": (
        "Repeat the passage with every [mask] filled in. Search until you know.",
        "repeat the whole passage with every [mask] filled in and its format unchanged.",
    ),
}
"""Forms of an answer but the numbered one: the compact prompt, and what the full one ends in."""


def choose_prompts(style: Literal["compact", "full"], answer_form: AnswerForm = "fills") -> PromptSet:
    """Return the prompts of a style, with the wanted form of the answer to a RAMP task (`AgentSettings`)."""
    prompts = COMPACT_PROMPTS if style == "compact" else FULL_PROMPTS
    if answer_form == "fills":
        return prompts
    short, long = _OTHER_FORMS[answer_form]
    masks_system = short if style == "compact" else _MASKS.format(answer=long)
    return prompts.model_copy(update={"masks_system": masks_system})
