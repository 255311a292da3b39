"""Does training pay on real text? Agents that learned from Wikipedia passages, with and without questions, against what
one would run instead: three-shot RAG with the untrained model over the same index.

    passages -> RAMP tasks -> trajectories -> A ---------.
    questions -> trajectories ----------------> C, C+     >--> B -> D (DAPO), and E (HotpotQA's questions alone)
                             '--------------------------'

H are agents that `masksearch pretrain` made of documents of another kind, without a question.

C has B's questions without the masks before them, C+ as many steps as A and B together. No question of a dev file is
trained on, and none of its passages; what watches over training are documents that are held back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.errors import ConfigError, CorpusError
from masksearch_agent.lab.real_text_report import write_real_text
from masksearch_agent.runs.exam import EXAM, RIVAL, DocumentExam
from masksearch_agent.stages.display import Display
from masksearch_agent.stages.evaluation import Asked, Evaluation
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.plan import RecipeStages, save_recipe
from masksearch_agent.stages.stage import AgentFolder, Corpus, Searched, TaskFile

__all__ = ("ROWS", "RealText")

ROWS = ("A", "B", "C", "C+", "D", "E")
_PASSAGES = "wikipedia"
_HOTPOTQA = "hotpotqa/train_600.json"
_TRAIN = (
    *(_HOTPOTQA, "2wikimultihopqa/train_500.json", "musique/train_50.jsonl"),
    "naturalquestions/train.jsonl.gz",
)
_OWN = ("hotpotqa", "musique", "2wikimultihopqa")
_OPEN = tuple(f"open_{name}" for name in _OWN)
_UNTRAINED = "untrained"
_ASKED = {
    RIVAL: (*_OWN, "naturalquestions", *_OPEN, EXAM),
    _UNTRAINED: (*_OWN, EXAM),
    "A": (*_OWN, EXAM),
    "B": (*_OWN, EXAM),
    "E": (*_OWN, "naturalquestions"),
}
"""Which sets an agent is asked, where it is not `_OWN` alone: what its row is to show, since each takes minutes."""
_DEV = {
    "hotpotqa": "hotpotqa/dev_200.json",
    "musique": "musique/dev_100.jsonl",
    "2wikimultihopqa": "2wikimultihopqa/dev_80.json",
    "naturalquestions": "naturalquestions/dev_300.jsonl",
}


class RealText:
    """The agents of one seed, and what they score.

    Args:
        recipe: Of the model, the tasks and the stages; its `qa_dapo` makes D.
        data: Folder of the samples.
        directory: Run folder; agents that share stages share them there.
        rows: Which agents to make.
        documents: Run folders of `masksearch pretrain` on documents of another kind: row H.

    Raises:
        CorpusError: A file of the samples is missing.
        ConfigError: The recipe has no `qa_dapo`, which D needs, or no number of steps, which C+ needs.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Path,
        directory: Path,
        rows: Sequence[str] = ROWS,
        display: Display | None = None,
        documents: Sequence[Path] = (),
    ) -> None:
        missing = [str(data / file) for file in (*_TRAIN, *_DEV.values()) if not (data / file).is_file()]
        if missing:
            raise CorpusError(f"the samples lack {', '.join(missing)}; pass their folder as --data")
        if "D" in rows and recipe.qa_dapo is None:
            raise ConfigError(
                "row D is made by DAPO, but the recipe has no qa_dapo; add it, or leave D out of --rows"
            )
        if "C+" in rows and min(recipe.ramp_sft.max_steps, recipe.qa_sft.max_steps) < 0:
            raise ConfigError(
                "row C+ takes the steps of both stages; set ramp_sft.max_steps and qa_sft.max_steps, or leave it out"
            )
        self.recipe, self.directory = recipe, directory
        self.make = make = RecipeStages(recipe)
        passages = Corpus(str(data / _PASSAGES / "train_passages.jsonl.gz"))
        self.searched = make.search(make.index(passages))
        self.base = make.base(self.searched.index)
        exam = DocumentExam(make, passages, self.searched)
        self.agents = {row: agent for row, agent in self._train(data, exam).items() if row in rows}
        self.evaluations = self._ask(data, exam)
        self.graph = StageGraph(directory, display, recipe.report_to)
        self.graph.check(self.evaluations)
        self.documents = documents

    def run(self) -> None:
        """Make and ask every agent that was not asked yet; write the report after each."""
        self.graph.hold()
        save_recipe(self.recipe, self.directory)
        for number, evaluation in enumerate(self.evaluations, start=1):
            self.graph.finish(evaluation)
            done = self.evaluations[:number]
            write_real_text(self.graph, done, self.recipe, self.directory, self.documents)

    def _train(self, data: Path, exam: DocumentExam) -> dict[str, AgentFolder]:
        make, recipe, searched, watched = self.make, self.recipe, self.searched, exam.deciding
        tasks = make.tasks(exam.rest, searched)
        ramp = make.trajectories(tasks, searched)
        questions = make.questions([data / file for file in _TRAIN], held_out=exam.held_out)
        of_hotpotqa = make.questions([data / _HOTPOTQA], "questions_hotpotqa", exam.held_out)
        agents = {"A": make.sft(self.base, ramp, recipe.ramp_sft, "ramp_sft", "A", exam=watched)}
        lessons = make.lessons(agents["A"], questions, searched)
        short = make.lessons(agents["A"], of_hotpotqa, searched, "lessons_hotpotqa")
        alone = recipe.qa_sft.model_copy(update={"ramp_share": 0.0})
        longer = alone.model_copy(update={"max_steps": alone.max_steps + recipe.ramp_sft.max_steps})
        agents["B"] = make.sft(agents["A"], lessons, recipe.qa_sft, "qa_sft", "B", (ramp,), watched)
        agents["C"] = make.sft(self.base, lessons, alone, "qa_sft", "C", exam=watched)
        agents["C+"] = make.sft(self.base, lessons, longer, "qa_sft", "C-plus", exam=watched)
        agents["E"] = make.sft(agents["A"], short, recipe.qa_sft, "qa_sft", "E", (ramp,), watched)
        if recipe.qa_dapo is not None:
            agents["D"] = make.dapo(
                agents["B"], questions, searched, recipe.qa_dapo, "qa_dapo", "D", ramp=(tasks,), exam=watched
            )
        return agents

    def _ask(self, data: Path, exam: DocumentExam) -> list[Evaluation]:
        """Return the evaluations: each dataset over its own pooled passages, and all of them over one open corpus."""
        make = self.make
        own = {name: self._over(Corpus(str(data / file)), name) for name, file in _DEV.items()}
        files = {name: TaskFile(str(data / file)) for name, file in _DEV.items()}
        every = self._over(Corpus(str(data / _PASSAGES)), "open_corpus")
        asked: Mapping[str, Asked] = {
            **{name: Asked(file, own[name]) for name, file in files.items()},
            **{f"open_{name}": Asked(files[name], every) for name in _OWN},
            EXAM: exam.asked[EXAM],
        }

        def of(agent: str) -> dict[str, Asked]:
            return {name: asked[name] for name in _ASKED.get(agent, _OWN)}

        rival = make.evaluation(RIVAL, self.base, of(RIVAL), "rag-3shot", is_trained=False)
        rows = [make.evaluation(row, agent, of(row)) for row, agent in self.agents.items()]
        if "B" in self.agents:
            over_all = {name: asked[name] for name in _OPEN}
            rows.append(make.evaluation("B", self.agents["B"], over_all, folder="open"))
        # Last: its prompts are the longest, and no row waits for it.
        untrained = make.evaluation(_UNTRAINED, self.base, of(_UNTRAINED), is_trained=False)
        return [rival, *rows, untrained]

    def _over(self, corpus: Corpus, name: str) -> Searched:
        return self.make.search(self.make.index(corpus, f"index_{name}"))
