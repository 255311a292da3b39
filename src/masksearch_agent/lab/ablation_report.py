"""The report of the ablations: JSON, and a Markdown page with a plot of each comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table
from rich.text import Text

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.environment import package_versions
from masksearch_agent.evaluation.intervals import Interval, bootstrap_over_runs
from masksearch_agent.evaluation.results import QuestionResult
from masksearch_agent.files import replace_text
from masksearch_agent.lab.ablation_claims import (
    MEASURES,
    ArmRun,
    AssessedClaim,
    assess,
    claims_of,
    domains_of,
)
from masksearch_agent.lab.ablation_plan import RAMP
from masksearch_agent.lab.recipe import Experiment, LabRecipe
from masksearch_agent.reports.charts import Mark, draw_forest
from masksearch_agent.reports.page import render_markdown
from masksearch_agent.reports.records import write_json
from masksearch_agent.reports.wording import difference, label
from masksearch_agent.stages.graph import FinishedStage

__all__ = ("AblationReport", "build_ablation_report", "claims_table", "write_ablation_report")

_TITLES: Mapping[Experiment, str] = {
    "table": "The paper's table, the same training on questions for all",
    "tokens": "The same total tokens: without pre-training, they are spent on questions",
    "curriculum": "Curriculum against mixed masks",
    "rewards": "Answer rewards",
    "sampling": "Dynamic sampling, for as many steps",
    "leak_guard": "Leak guard, while tasks and trajectories are made and in training",
    "evolution": "Self-evolution",
}
_QUESTION_COLUMNS = ("in domain", "out of domain")
"""Drawn in one plot; the kinds of questions behind them stand in the table."""
_PLOT_WIDTH = 460


@dataclass(frozen=True, slots=True)
class Cell:
    """The scores of an arm on a column's questions, over all seeds; each seed counts alike."""

    recall: Interval
    em: float
    length: float
    """How many times as long as the expected answers the answers are."""
    searches: float
    n: int
    """Questions a seed."""


@dataclass(frozen=True, slots=True)
class ArmRow:
    """An arm of a comparison."""

    arm: str
    seeds: int
    cells: Mapping[str, Cell]
    """By column."""
    tokens: float | None
    """Tokens that its training read, in the mean over seeds; None where that is not told."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison with its arms."""

    name: Experiment
    title: str
    columns: tuple[str, ...]
    rows: tuple[ArmRow, ...]


@dataclass(frozen=True, slots=True)
class AblationReport:
    """A finished run."""

    title: str
    seeds: tuple[int, ...]
    smallest_gain: float
    claims: tuple[AssessedClaim, ...]
    experiments: tuple[Comparison, ...]
    stage_seconds: float
    peak_memory_gb: float
    versions: Mapping[str, str] = field(default_factory=package_versions)
    format_version: int = 1

    @property
    def heading(self) -> str:
        """What was compared, on which seeds."""
        seeds = ", ".join(map(str, self.seeds))
        return f"Ablations: {self.title}, seed{'s' if len(self.seeds) > 1 else ''} {seeds}"


def build_ablation_report(
    recipe: LabRecipe, runs: Mapping[Experiment, Sequence[ArmRun]], took: Sequence[FinishedStage]
) -> AblationReport:
    """Collect the report of a finished run of the arms of each comparison, each with each seed."""
    settings, gain = recipe.evaluation, recipe.ablation.smallest_gain
    claims = claims_of(recipe, _common_rounds(runs.get("evolution", ())))
    return AblationReport(
        title=recipe.name,
        seeds=recipe.ablation.seeds,
        smallest_gain=gain,
        claims=tuple(assess(claim, runs[claim.experiment], gain, settings) for claim in claims),
        experiments=tuple(
            Comparison(name, _TITLES[name], tuple(columns), tuple(_rows(arms, columns, settings)))
            for name, arms in runs.items()
            for columns in [_columns(recipe, name)]
        ),
        stage_seconds=sum(stage.seconds for stage in took),
        peak_memory_gb=max((stage.peak_memory_gb for stage in took), default=0.0),
    )


def write_ablation_report(report: AblationReport, directory: Path) -> None:
    """Write `ablation.json`, `ablation.md` and its plots, `ablation-claims.svg` and one for each comparison."""
    write_json(report, directory / "ablation.json")
    page = render_markdown("ablation.md", package="masksearch_agent.lab", report=report)
    replace_text(directory / "ablation.md", page)
    claims = [Mark(claim.claim, claim.gain) for claim in report.claims]
    scale = "difference in the direction of the claim, 95% interval"
    plots = {"claims": draw_forest(claims, scale, width=_PLOT_WIDTH)}
    plots |= {entry.name: _draw(entry) for entry in report.experiments}
    for name, svg in plots.items():
        replace_text(directory / f"ablation-{name}.svg", svg + "\n")


def claims_table(report: AblationReport) -> Table:
    """Return the claims and what became of them as a table for the terminal."""
    table = Table(title=report.heading, title_justify="left")
    for head in ("claim", "difference (95%)", "verdict"):
        table.add_column(head)
    for claim in report.claims:
        table.add_row(*map(Text, (claim.claim, difference(claim.gain), claim.verdict)))
    return table


def _draw(entry: Comparison) -> str:
    """Draw the recall of a comparison's agents, in and out of domain where it has both."""
    columns = [name for name in entry.columns if name in _QUESTION_COLUMNS] or list(entry.columns)
    marks = [
        Mark(label(row.arm), row.cells[column].recall, column if len(columns) > 1 else "")
        for row in entry.rows
        for column in columns
    ]
    return draw_forest(marks, "recall, 95% interval", (0.0, 1.0), _PLOT_WIDTH)


def _columns(recipe: LabRecipe, experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Return the columns of a table, and the test sets that each is about."""
    if experiment not in ("table", "tokens"):
        return {RAMP: (RAMP,)}
    in_domain, out_of_domain = domains_of(recipe)
    single = {name: (name,) for name in in_domain + out_of_domain}
    return {"in domain": in_domain, "out of domain": out_of_domain, **single}


def _rows(
    runs: Sequence[ArmRun], columns: Mapping[str, tuple[str, ...]], settings: EvaluationSettings
) -> list[ArmRow]:
    """Return a row an arm, over all of its seeds."""
    rows = []
    for arm in dict.fromkeys(run.arm for run in runs):
        mine = [run for run in runs if run.arm == arm]
        tokens = [run.tokens for run in mine if run.tokens is not None]
        cells = {
            column: _cell([[r for name in sets for r in run.results[name]] for run in mine], settings)
            for column, sets in columns.items()
        }
        rows.append(ArmRow(arm, len(mine), cells, sum(tokens) / len(tokens) if tokens else None))
    return rows


def _cell(seeds: Sequence[Sequence[QuestionResult]], settings: EvaluationSettings) -> Cell:
    def mean(values: Sequence[Sequence[float]]) -> float:
        return sum(sum(of_seed) / len(of_seed) for of_seed in values) / len(values)

    scores = {
        name: [[measure(result) for result in results] for results in seeds]
        for name, measure in MEASURES.items()
    }
    return Cell(
        recall=bootstrap_over_runs(scores["recall"], settings.seed, settings.bootstrap_samples),
        em=mean(scores["em"]),
        length=mean(scores["length"]),
        searches=mean([[float(result.searches) for result in results] for results in seeds]),
        n=round(sum(len(results) for results in seeds) / len(seeds)),
    )


def _common_rounds(runs: Sequence[ArmRun]) -> int:
    """Return how many rounds of self-evolution every seed has."""
    seeds = Counter({run.seed: 0 for run in runs})
    seeds.update(run.seed for run in runs if run.arm.startswith("round "))
    return min(seeds.values(), default=0)
