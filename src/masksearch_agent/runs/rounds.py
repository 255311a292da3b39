"""The rounds of self-evolution: the graph of `generator.evolution`, each of its steps a stage.

A run that was stopped is walked through the graph again: finished stages say what they said, and the one that was
stopped goes on in its middle, task by task, checkpoint by checkpoint, question by question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from masksearch_agent.config.evolution import EvolutionSettings
from masksearch_agent.config.trainers import SFTSettings
from masksearch_agent.evaluation.results import read_results
from masksearch_agent.evaluation.runner import summarise
from masksearch_agent.generator.evolution import EvolutionState, Generated, build_evolution_graph
from masksearch_agent.stages.evaluation import Asked, Evaluation
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.plan import RecipeStages, prompts_of
from masksearch_agent.stages.sft import read_accepted
from masksearch_agent.stages.split import TaskSplit
from masksearch_agent.stages.stage import AgentFolder, Searched, TaskFile, Traces
from masksearch_agent.stages.tasks import read_task_files
from masksearch_agent.stages.trajectories import Lessons, OwnAttempts
from masksearch_agent.traces.store import TraceStore

__all__ = ("Rounds", "evolve", "split_tasks")

_NODES_A_ROUND = 4


@dataclass
class Rounds:
    """The steps of self-evolution (`generator.evolution.RoundSteps`), and what each round made."""

    graph: StageGraph
    make: RecipeStages
    split: TaskSplit
    searched: Searched
    """What the tasks are answered from."""
    base: AgentFolder
    """The untrained agent."""
    settings: EvolutionSettings
    sft: SFTSettings
    """How each round trains."""
    traces: list[Traces] = field(default_factory=list)
    """Of each round so far."""
    students: list[AgentFolder] = field(default_factory=list)
    exams: list[Evaluation] = field(default_factory=list)

    def teach(self) -> Generated:
        """Have the generator's teacher work on the first tasks."""
        recipe = self.make.recipe
        stage = Lessons(
            **self._named(1, "trajectories", "the teacher"),
            tasks=self.split.pool,
            searched=self.searched,
            settings=recipe.generator,
            agent_settings=recipe.agent,
            prompts=prompts_of(recipe),
            trace_stage="round-1",
            only=(0, self.settings.teacher_tasks),
        )
        return self._generate(stage)

    def sample(self, round_number: int) -> Generated:
        """Have the last student work on tasks that no round has seen."""
        first = self.settings.teacher_tasks + (round_number - 2) * self.settings.tasks_per_round
        if first >= len(read_task_files([self.graph.where(self.split.pool)])):
            return Generated(0, 0)
        recipe = self.make.recipe
        # Of what the rounds are about, an attempt depends on no more than this.
        attempts = EvolutionSettings(
            samples_per_task=self.settings.samples_per_task, temperature=self.settings.temperature
        )
        stage = OwnAttempts(
            **self._named(round_number, "trajectories", "the student"),
            agent=self.students[-1],
            tasks=self.split.pool,
            searched=self.searched,
            settings=attempts,
            generator=recipe.generator,
            agent_settings=recipe.agent,
            seed=recipe.seed,
            trace_stage=f"round-{round_number}",
            only=(first, first + self.settings.tasks_per_round),
        )
        return self._generate(stage)

    def merge(self, round_number: int) -> int:
        """Return how many trajectories all rounds so far accepted, one a task."""
        return len(read_accepted([(self.graph.where(t), t.trace_stage) for t in self.traces]))

    def train(self, round_number: int) -> None:
        """Fine-tune the base model, or the last student, on the trajectories of all rounds so far."""
        is_continued = self.settings.start_from == "student" and round_number > 1
        source = self.students[-1] if is_continued else self.base
        student = self.make.sft(source, tuple(self.traces), self.sft, f"round_{round_number}")
        self.students.append(student)
        self.graph.make(student)

    def evaluate(self, round_number: int) -> float:
        """Ask the student the held-out tasks; return the recall on those that decide."""
        asked = {name: Asked(getattr(self.split, name), self.searched) for name in ("validation", "test")}
        exam = self.make.evaluation(f"round_{round_number}", self.students[-1], asked)
        self.exams.append(exam)
        self.graph.finish(exam)
        scores = read_results(self.graph.where(exam.results["validation"]))
        return summarise(scores, self.make.recipe.evaluation).recall

    def _generate(self, stage: Lessons | OwnAttempts) -> Generated:
        self.traces.append(stage.traces)
        self.graph.finish(stage)
        with TraceStore(self.graph.where(stage.traces)) as store:
            tasks = store.finished_task_ids(stage.trace_stage)
            return Generated(len(tasks), store.count(stage.trace_stage, accepted=True))

    def _named(self, number: int, folder: str, who: str) -> dict[str, str]:
        name = f"{folder}/round_{number}" if self.make.is_named else ""
        return {"name": name, "title": f"round {number}: {who}"}


def evolve(rounds: Rounds) -> EvolutionState:
    """Do all rounds; the graph's last state says which was the best, and why it ended."""
    rounds.graph.finish(rounds.split)
    graph = build_evolution_graph(rounds, rounds.settings).compile(name="masksearch-evolution")
    limit = _NODES_A_ROUND * rounds.settings.max_rounds + 5
    state: EvolutionState = graph.invoke({}, {"recursion_limit": limit})  # type: ignore[assignment]
    return state


def split_tasks(
    make: RecipeStages, tasks: Sequence[TaskFile], held_out: Sequence[TaskFile], settings: EvolutionSettings
) -> TaskSplit:
    """Return the stage that deals the tasks of all rounds out."""
    return TaskSplit(
        name="split" if make.is_named else "",
        title="tasks, and which are held out",
        tasks=tuple(tasks),
        held_out=tuple(held_out),
        validation_tasks=settings.validation_tasks,
        test_tasks=settings.test_tasks,
        seed=make.recipe.seed,
    )
