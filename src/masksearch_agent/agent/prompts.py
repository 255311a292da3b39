"""What the agent is told: one set of prompts, kept in the agent bundle, so what was trained is what is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from masksearch_agent.agent.examples import MASK_EXAMPLES, QUESTION_EXAMPLES, WorkedExample, in_form
from masksearch_agent.config.agent import AnswerForm
from masksearch_agent.config.base import Settings

__all__ = (
    "BRIEF_PROMPTS",
    "CITE",
    "COMPACT_PROMPTS",
    "FULL_PROMPTS",
    "TOOL_PROMPTS",
    "PromptSet",
    "PromptStyle",
    "add_examples",
    "choose_prompts",
    "default_prompts",
)

PromptStyle = Literal["compact", "brief", "full", "few_shot"]
"""`compact` for a tiny model that learns them, `brief` for a small one that does and is compared with itself before it
did, `full` for one that reads instructions, `few_shot` for one that was not trained for it: the full ones with worked
examples."""


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
    question_examples: tuple[WorkedExample, ...] = ()
    """Shown between the system prompt and a question."""
    mask_examples: tuple[WorkedExample, ...] = ()
    """Shown between the system prompt and a RAMP task."""

    def system_for(self, kind: str) -> str:
        """Return the system prompt for a kind of task (`ramp` or `qa`)."""
        return self.masks_system if kind == "ramp" else self.question_system

    def examples_for(self, kind: str) -> tuple[WorkedExample, ...]:
        """Return the worked examples for a kind of task."""
        return self.mask_examples if kind == "ramp" else self.question_examples

    @property
    def has_examples(self) -> bool:
        """Whether a run opens with worked examples."""
        return bool(self.question_examples or self.mask_examples)


COMPACT_PROMPTS = PromptSet(
    question_system="Answer the question. Search until you know.",
    masks_system="Fill in every [mask], one numbered line each. Search until you know.",
    repair="{problem} Try again.",
    force_answer="No searches left. Answer now.",
)
"""For the tiny model, which learns what a prompt means from training alone: few tokens."""

_BRIEF_FORMAT = (
    "Write <think></think>, then a query between <search> and </search>, or a short answer between <answer> and "
    "</answer>."
)

BRIEF_PROMPTS = PromptSet(
    question_system=f"Answer the question. {_BRIEF_FORMAT}",
    masks_system=f"Fill in every [mask], one numbered line each. {_BRIEF_FORMAT}",
    repair="{problem} Try again.",
    force_answer="No searches left. Answer now.",
)
"""For a small model that is trained on a CPU, where each token of a prompt costs as much as one of a passage."""

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

CITE = " Behind each claim of the answer, put the number of the passage that says so in brackets, for example [3]."
"""Follows the prompt for a question where the model is to cite. It is not recorded, and neither are the numbers: what
trains a model of ours cites nothing."""

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


def default_prompts(dialect: Literal["tags", "tools"], cites: bool = False) -> PromptSet:
    """Return the prompts of a dialect where the user brings none; `cites` asks for numbers behind what is claimed."""
    prompts = TOOL_PROMPTS if dialect == "tools" else FULL_PROMPTS
    return (
        prompts.model_copy(update={"question_system": prompts.question_system + CITE}) if cites else prompts
    )


_UNTIL_KNOWN = "Search until you know."

_OTHER_FORMS: Mapping[AnswerForm, tuple[str, str]] = {
    "bare_fills": (
        f"Fill in every [mask], one line each. {_UNTIL_KNOWN}",
        "give the text for each [mask], one line each, in order.",
    ),
    "passage": (
        f"Repeat the passage with every [mask] filled in. {_UNTIL_KNOWN}",
        "repeat the whole passage with every [mask] filled in and its format unchanged.",
    ),
}
"""Forms of an answer but the numbered one: the compact prompt, and what the full one ends in."""


def choose_prompts(style: PromptStyle, answer_form: AnswerForm = "fills") -> PromptSet:
    """Return the prompts of a style, with the wanted form of the answer to a RAMP task (`AgentSettings`)."""
    prompts = {"compact": COMPACT_PROMPTS, "brief": BRIEF_PROMPTS}.get(style, FULL_PROMPTS)
    changes: dict[str, Any] = {}
    if answer_form != "fills":
        short, long = _OTHER_FORMS[answer_form]
        brief = f"{short.removesuffix(_UNTIL_KNOWN)}{_BRIEF_FORMAT}"
        forms = {"compact": short, "brief": brief}
        changes["masks_system"] = forms.get(style, _MASKS.format(answer=long))
    chosen = prompts.model_copy(update=changes)
    return add_examples(chosen, answer_form) if style == "few_shot" else chosen


def add_examples(prompts: PromptSet, answer_form: AnswerForm = "fills") -> PromptSet:
    """Return prompts with worked examples, for a model that was not trained for them.

    Prompts that have examples keep their own, and the compact ones stay as they are: a tiny model makes nothing of
    examples, and has little room for them.
    """
    if prompts.has_examples or prompts.question_system == COMPACT_PROMPTS.question_system:
        return prompts
    examples = {"question_examples": QUESTION_EXAMPLES, "mask_examples": in_form(MASK_EXAMPLES, answer_form)}
    return prompts.model_copy(update=examples)
