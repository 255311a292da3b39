"""Worked examples: short runs that stand before the question, so that an untrained model sees what a run looks like.

Whoever they are shown to reads them again with every step, so they are few and short. Their facts are invented: no
example may hold the answer to a question of a benchmark. They are context, like every other text of the environment;
nothing trains on them.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage

from masksearch_agent.agent.escaping import neutralise
from masksearch_agent.agent.protocol import (
    AnswerStep,
    SearchStep,
    render_fills,
    render_information,
    render_step,
)
from masksearch_agent.config.agent import AnswerForm
from masksearch_agent.config.base import Settings
from masksearch_agent.records import MASK, Passage

__all__ = ("MASK_EXAMPLES", "QUESTION_EXAMPLES", "ExampleSearch", "WorkedExample", "in_form")


class ExampleSearch(Settings):
    """One search step of a worked example and what it found."""

    think: str
    query: str
    title: str
    """Of the passage that it found."""
    text: str

    @property
    def passage(self) -> Passage:
        """What was found."""
        return Passage("example", self.title, self.text)


class WorkedExample(Settings):
    """A question, the searches that it took, and its answer."""

    question: str
    searches: tuple[ExampleSearch, ...]
    think: str
    """The thought before the answer."""
    answer: str

    def messages(self, search_first: bool = False) -> list[AnyMessage]:
        """Return the run as the messages of the tags dialect: the user's and the model's in turn.

        With `search_first`, what its first search found stands with the question, and the step is left out.
        """
        asked, searches = neutralise(self.question), self.searches
        if search_first:
            asked, searches = f"{asked}\n{render_information([searches[0].passage])}", searches[1:]
        said: list[AnyMessage] = [HumanMessage(asked)]
        for search in searches:
            step = render_step(SearchStep(search.think, (search.query,)))
            said += [AIMessage(step), HumanMessage(render_information([search.passage]))]
        return [*said, self._answer()]

    def messages_at_once(self, request: str) -> list[AnyMessage]:
        """Return the run of a model that is shown all passages with the question; `request` asks for the answer."""
        found = render_information([search.passage for search in self.searches])
        return [HumanMessage("\n".join((neutralise(self.question), found, request))), self._answer()]

    def _answer(self) -> AIMessage:
        return AIMessage(render_step(AnswerStep(self.think, self.answer)))


QUESTION_EXAMPLES = (
    WorkedExample(
        question="Are Lake Orla and Lake Venn in the same country?",
        searches=(
            ExampleSearch(
                think="I need the country of each lake.",
                query="Lake Orla Lake Venn country",
                title="Lake Orla",
                text="Lake Orla and the smaller Lake Venn lie in the north of Kestra.",
            ),
        ),
        think="Both lie in Kestra.",
        answer="yes",
    ),
    WorkedExample(
        question="In which year was the painter of The Amber Mill born?",
        searches=(
            ExampleSearch(
                think="I need the painter of The Amber Mill.",
                query="The Amber Mill painter",
                title="The Amber Mill",
                text="The Amber Mill is a picture that Tomas Reed painted in Halden.",
            ),
            ExampleSearch(
                think="Tomas Reed painted it. I need his year of birth.",
                query="Tomas Reed born",
                title="Tomas Reed",
                text="Tomas Reed (born 1931 in Pell) was a painter and teacher.",
            ),
        ),
        think="Tomas Reed was born in 1931.",
        answer="1931",
    ),
    WorkedExample(
        question="Who founded the company that makes the Velling lamp?",
        searches=(
            ExampleSearch(
                think="I need the company that makes the Velling lamp.",
                query="Velling lamp company",
                title="Velling lamp",
                text="The Velling lamp is made by Orrin Works of Pell.",
            ),
            ExampleSearch(
                think="Orrin Works makes it. I need its founder.",
                query="Orrin Works founder",
                title="Orrin Works",
                text="Orrin Works was founded by Mara Quist in 1902.",
            ),
        ),
        think="Mara Quist founded Orrin Works.",
        answer="Mara Quist",
    ),
)
"""One with yes or no, and two with two searches and a short answer, which stand last: what stands last is imitated
most. With the first two alone a third of the first steps of SmolLM2-135M were malformed."""

MASK_EXAMPLES = (
    WorkedExample(
        question=f"The Amber Mill: The Amber Mill is a picture that {MASK} painted in {MASK}.",
        searches=(
            ExampleSearch(
                think="I need the painter of The Amber Mill and the town.",
                query="The Amber Mill painter town",
                title="Halden",
                text="Tomas Reed lived in Halden when he painted The Amber Mill.",
            ),
        ),
        think="Tomas Reed painted it in Halden.",
        answer="Tomas Reed\nHalden",
    ),
)
"""The fills as bare lines; `in_form` gives the other forms."""


def in_form(examples: Sequence[WorkedExample], answer_form: AnswerForm) -> tuple[WorkedExample, ...]:
    """Return examples of masks, whose answers are bare fills, with their answers in a form (`AgentSettings`)."""
    return tuple(
        e.model_copy(update={"answer": render_fills(e.question, e.answer.split("\n"), answer_form)})
        for e in examples
    )
