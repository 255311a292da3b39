"""What a run trains, in order: Stage I on the tasks that documents give, Stage II on questions, where there are any."""

from __future__ import annotations

from masksearch_agent.runs.exam import DocumentExam
from masksearch_agent.stages.plan import RecipeStages
from masksearch_agent.stages.stage import AgentFolder, Searched, TaskFile, Traces

__all__ = ("TrainingStages",)


class TrainingStages:
    """The stages that train.

    Args:
        make: Makes the stages.
        base: The untrained agent.
        tasks: Of the documents.
        searched: What tasks and questions are answered from.
        questions: Of Stage II; None leaves it out.
        exam: Its deciding half watches over the training, where a stage has a `monitor`.
    """

    def __init__(
        self,
        make: RecipeStages,
        base: AgentFolder,
        tasks: TaskFile,
        searched: Searched,
        questions: TaskFile | None,
        exam: DocumentExam | None,
    ) -> None:
        recipe, watched = make.recipe, exam.deciding if exam else None
        self.tasks, self.traces = tasks, make.trajectories(tasks, searched)
        self.lessons: tuple[Traces, ...] = ()
        """What Stage II learns from."""
        self.agents: dict[str, AgentFolder] = {}
        """Each stage's agent, in the order of training."""
        agents = self.agents
        agents["ramp_sft"] = make.sft(base, self.traces, recipe.ramp_sft, "ramp_sft", exam=watched)
        if recipe.ramp_dapo is not None:
            start = agents["ramp_sft"]
            agents["ramp_dapo"] = make.dapo(
                start, tasks, searched, recipe.ramp_dapo, "ramp_dapo", exam=watched
            )
        if questions is None:
            return
        start = [*agents.values()][-1]
        self.lessons = make.lessons(start, questions, searched)
        agents["qa_sft"] = make.sft(
            start, self.lessons, recipe.qa_sft, "qa_sft", ramp=(self.traces,), exam=watched
        )
        if recipe.qa_dapo is not None:
            agents["qa_dapo"] = make.dapo(
                agents["qa_sft"], questions, searched, recipe.qa_dapo, "qa_dapo",
                ramp=(tasks,), exam=watched,
            )  # fmt: skip
