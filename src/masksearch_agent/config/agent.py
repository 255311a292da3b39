"""Settings of the search agent: its dialect and limits. They are kept in the agent bundle."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from masksearch_agent.config.base import Settings

__all__ = ("AgentSettings", "AnswerForm")

AnswerForm = Literal["fills", "bare_fills", "passage"]
"""How a RAMP task is answered: the fills as numbered lines, the fills as lines, or the whole passage with every
`[mask]` filled. Bare, the fill of one mask looks like the answer to a question."""


class AgentSettings(Settings):
    """How the agent takes its steps, and how far a run may go."""

    dialect: Literal["tags", "tools"] = "tags"
    """How the model takes a step: `tags` in its text (any model; the only one that can be trained), or native `tools`
    calls (API models)."""

    max_searches: int = Field(default=5, ge=0)
    """Searches, the opening one included; the paper's generator takes at most 5 rounds."""
    search_first: bool = False
    """Search for the question itself before the model's first step, as in retrieval-augmented generation: the first
    step then reads passages already, and may answer or search on. Saves a call, and no model can forget to search."""
    repeat_passages: bool = True
    """Show a passage again that an earlier search of the run has shown. False shows the next best in its place."""
    max_queries: int = Field(default=3, ge=1)
    """Queries in one search step."""
    passages_per_search: int = Field(default=5, ge=1)
    """Passages shown per search step, over all its queries."""
    max_passage_words: int | None = Field(default=None, ge=1)
    """Words of a passage that are shown, from its beginning; None shows all. One table of thousands of words among the
    passages takes longer to read than all else in a run."""
    passage_numbers: Literal["run", "search"] | None = None
    """Whether the numbers of passages go on through a `run`, so that `[7]` means one passage and an answer can cite it,
    or begin again with each `search`. None: `search` for a model whose tokens are recorded, as the bundles were trained
    that do not say it, else `run`."""
    max_repairs: int = Field(default=2, ge=0)
    """Corrective messages after malformed steps, over the whole run."""
    max_step_tokens: int = Field(default=512, ge=1)
    """Sampled tokens of one step. A model whose tokens are not recorded is held to it only where it is set."""
    max_sampled_tokens: int = Field(default=4096, ge=1)
    """Sampled tokens of the whole run; taken as four characters each where a model does not report its usage. A model
    whose tokens are not recorded is held to it only where it is set."""
    time_limit_s: float = Field(default=300.0, gt=0)
    """Seconds of the whole run; they end a search, and a call of a model whose tokens are not recorded, that is under
    way. Time in which a run waits for a person, or is interrupted, does not count."""
    answer_form: AnswerForm = "fills"
    """How a RAMP task is answered."""
    answers_from_passages: bool = False
    """Whether an answer is held, while it is sampled, to spans of the passages that were shown and of the question, or
    yes or no. With weights in this process only; rollouts of DAPO are never held. The fills of a RAMP task are held one
    by one; where `answer_form` is `passage` they are not."""

    @model_validator(mode="after")
    def _leave_room_to_search(self) -> AgentSettings:
        if self.search_first and not self.max_searches:
            raise ValueError("search_first takes a search, but max_searches is 0; allow one, or leave it out")
        return self
