from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import pytest
from fakes.backends import PacedBackend, TableBackend
from fakes.chat_models import ScriptedRecordingModel
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import ValidationError

from masksearch_agent.agent.prompts import COMPACT_PROMPTS, FULL_PROMPTS, PromptSet
from masksearch_agent.agent.protocol import AnswerStep, SearchStep, parse_step
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.jsonl import dump_record
from masksearch_agent.records import Hop, Passage, SearchTask, Trajectory
from masksearch_agent.retrieval.search import Search
from masksearch_agent.text.fills import split_fills

LIMITS = AgentSettings(passages_per_search=3, max_queries=3)


def make_generator(
    search: Search,
    limits: AgentSettings = LIMITS,
    settings: GeneratorSettings | None = None,
    prompts: PromptSet = COMPACT_PROMPTS,
) -> TrajectoryGenerator:
    return TrajectoryGenerator(search, prompts, limits, settings)


def generate(generator: TrajectoryGenerator, tasks: Sequence[SearchTask]) -> list[Trajectory]:
    async def run() -> list[Trajectory]:
        return await asyncio.gather(*(generator.run_task(task) for task in tasks))

    return asyncio.run(run())


def steps(trajectory: Trajectory) -> list[SearchStep | AnswerStep]:
    parsed = [parse_step(turn.text, LIMITS.max_queries) for turn in trajectory.turns]
    assert all(isinstance(step, SearchStep | AnswerStep) for step in parsed)
    return parsed  # type: ignore[return-value]


def question(hops: Sequence[Hop], answer: str = "") -> SearchTask:
    return SearchTask("q", "qa", "Who?", ((answer or hops[-1].answer,),), hops=tuple(hops))


FOUNDER = Hop("the founder of Velling Works", "Velling Works founder", "Ada Holt")
TOLD = Passage("p1", "Velling Works", "The founder of Velling Works is Ada Holt.")
OTHER = Passage("p2", "Port Aldin", "Port Aldin lies by the sea.")

MASKS = SearchTask(
    "r",
    "ramp",
    "Ada Holt: She was born in [mask] and works for [mask] in [mask].",
    (("1901",), ("Velling Works",), ("Port Aldin",)),
    hops=(
        Hop("the birth year of Ada Holt", "Ada Holt birth year", "1901"),
        Hop("the employer of Ada Holt", "Ada Holt employer", "Velling Works"),
        Hop("the city of Ada Holt", "Ada Holt city", "Port Aldin"),
    ),
)
MASK_PASSAGES = {
    "Ada Holt birth year": [Passage("y", "Births", "The birth year of Ada Holt is 1901.")],
    "Ada Holt employer": [Passage("e", "Staff", "Ada Holt: employer Velling Works.")],
    "Ada Holt city": [Passage("c", "Homes", "The city of Ada Holt: Port Aldin.")],
}


def test_every_trajectory_is_what_the_agent_itself_would_have_shown_and_recorded(
    search: Search, ramp_tasks: list[SearchTask], questions: list[SearchTask]
) -> None:
    tasks = ramp_tasks + questions
    for task, taught in zip(tasks, generate(make_generator(search), tasks), strict=True):
        if not taught.accepted:
            continue
        # A model that is trained on trajectories is a recorded one, which counts each search's passages afresh.
        model = ScriptedRecordingModel(script=[turn.text for turn in taught.turns])
        agent = MaskSearchAgent(model, search, LIMITS, COMPACT_PROMPTS)
        replayed = asyncio.run(agent.run_task(task))
        assert [turn.context for turn in replayed.turns] == [turn.context for turn in taught.turns]
        assert [turn.text for turn in replayed.turns] == [turn.text for turn in taught.turns]
        assert (replayed.retrieved, replayed.queries) == (taught.retrieved, taught.queries)
        assert (replayed.answer, replayed.stop_reason) == (taught.answer, taught.stop_reason)
        assert replayed.format_errors == taught.format_errors == 0


def test_most_tasks_of_the_closed_world_give_an_accepted_trajectory(
    search: Search, ramp_tasks: list[SearchTask], questions: list[SearchTask]
) -> None:
    trajectories = generate(make_generator(search), ramp_tasks + questions)
    assert sum(bool(trajectory.accepted) for trajectory in trajectories) >= 0.9 * len(trajectories)


def test_every_accepted_answer_stands_in_the_retrieved_passages(
    search: Search, ramp_tasks: list[SearchTask], questions: list[SearchTask]
) -> None:
    tasks = ramp_tasks + questions
    assert {task.mask_count for task in ramp_tasks} == {1, 2, 3, 4}
    assert {task.hop_count for task in questions} == {1, 2, 3}
    for task, trajectory in zip(tasks, generate(make_generator(search), tasks), strict=True):
        if trajectory.accepted:
            text = "\n".join(passage.text for shown in trajectory.retrieved for passage in shown)
            assert all(hop.answer in text for hop in task.hops)
            answers = [slot[0] for slot in task.answers]
            if task.kind == "ramp":
                assert split_fills(task, trajectory.answer) == tuple(answers)
            else:
                assert trajectory.answer == answers[0]


def test_no_query_holds_the_answer_it_is_to_find(
    search: Search, ramp_tasks: list[SearchTask], questions: list[SearchTask]
) -> None:
    tasks = ramp_tasks + questions
    for task, trajectory in zip(tasks, generate(make_generator(search), tasks), strict=True):
        known: set[str] = set()
        for asked, shown in zip(trajectory.queries, trajectory.retrieved, strict=True):
            unknown = {hop.answer for hop in task.hops} - known
            told = {answer for answer in unknown for query in asked if f" {answer} " in f" {query} "}
            assert not {answer for answer in told if answer not in task.question}
            text = "\n".join(passage.text for passage in shown)
            known |= {answer for answer in unknown if answer in text}


def test_the_source_of_a_masked_passage_is_never_shown(
    world_passages: dict[str, Passage], search: Search, ramp_tasks: list[SearchTask]
) -> None:
    for task, trajectory in zip(ramp_tasks, generate(make_generator(search), ramp_tasks), strict=True):
        shown = {passage.id for found in trajectory.retrieved for passage in found}
        assert shown
        assert task.source_passage_id in world_passages
        assert task.source_passage_id not in shown


def test_a_near_copy_of_the_source_is_never_shown() -> None:
    text = "She was born in 1901 and works for Velling Works in Port Aldin."
    copy = Passage("copy", "Mirror", f"Found elsewhere. {text}")
    table = {query: [copy, *found] for query, found in MASK_PASSAGES.items()}
    [trajectory] = generate(make_generator(Search(TableBackend(table))), [MASKS])
    assert trajectory.accepted
    assert "copy" not in {passage.id for shown in trajectory.retrieved for passage in shown}


def test_a_search_that_found_nothing_is_followed_by_another_query() -> None:
    backend = TableBackend({FOUNDER.query: [OTHER], FOUNDER.need: [OTHER, TOLD]})
    [trajectory] = generate(make_generator(Search(backend)), [question([FOUNDER])])
    assert trajectory.accepted
    assert steps(trajectory) == [
        SearchStep("I need the founder of Velling Works.", (FOUNDER.query,)),
        SearchStep(
            "No passage says the founder of Velling Works. I need the founder of Velling Works.",
            (FOUNDER.need,),
        ),
        AnswerStep("The founder of Velling Works is Ada Holt [2].", "Ada Holt"),
    ]


def test_a_need_that_nothing_supports_is_given_up_and_rejected_with_its_reason() -> None:
    backend = TableBackend({FOUNDER.query: [OTHER]})
    [trajectory] = generate(make_generator(Search(backend)), [question([FOUNDER])])
    assert trajectory.accepted is False
    assert trajectory.verdict == "not supported by the retrieved passages"
    assert trajectory.stop_reason == "gave_up"
    assert trajectory.answer == ""
    assert trajectory.queries == ((FOUNDER.query,), (FOUNDER.need,))
    assert all(isinstance(step, SearchStep) for step in steps(trajectory))


def test_a_query_with_odd_spacing_and_tags_counts_as_asked() -> None:
    hop = Hop("the founder of <search>  Velling", "Velling  <search> founder", "Ada Holt")
    [trajectory] = generate(make_generator(Search(TableBackend({}))), [question([hop])])
    assert trajectory.verdict == "not supported by the retrieved passages"
    assert len(trajectory.queries) == GeneratorSettings().attempts_per_need


def test_a_task_without_hops_is_given_up_without_a_search() -> None:
    task = SearchTask("q", "qa", "Who?", (("Ada Holt",),))
    [trajectory] = generate(make_generator(Search(TableBackend({}))), [task])
    assert trajectory.stop_reason == "gave_up"
    assert trajectory.turns == ()


def test_a_chain_is_walked_one_hop_a_round() -> None:
    mayor = Hop("the mayor of Port Aldin", "Port Aldin mayor", "Ada Holt")
    home = Hop("the birthplace of Ada Holt", "Ada Holt birthplace", "Kelm")
    table = {
        mayor.query: [
            Passage("a", "Port Aldin", "Its mayor is Ada Holt."),
            # The second fact is in sight already, but must not be known before its subject is.
            Passage("b", "Ada Holt", "Her birthplace is Kelm. She is mayor of Port Aldin."),
        ],
        home.query: [Passage("b", "Ada Holt", "Her birthplace is Kelm. She is mayor of Port Aldin.")],
    }
    [trajectory] = generate(make_generator(Search(TableBackend(table))), [question([mayor, home])])
    assert trajectory.accepted
    assert trajectory.queries == ((mayor.query,), (home.query,))


def test_queries_of_a_round_run_side_by_side_and_merge_in_their_own_order() -> None:
    shown = []
    for delays in ((0.06, 0.03, 0.0), (0.0, 0.03, 0.06)):
        backend = PacedBackend(MASK_PASSAGES, dict(zip(MASK_PASSAGES, delays, strict=True)))
        generator = make_generator(Search(backend), settings=GeneratorSettings(needs_per_round=3))
        [trajectory] = generate(generator, [MASKS])
        assert backend.most_running == 3
        assert trajectory.queries == (tuple(MASK_PASSAGES),)
        shown.append((backend.finished, trajectory))
    (first_order, first), (second_order, second) = shown
    assert first_order == second_order[::-1]
    assert [passage.id for passage in first.retrieved[0]] == ["y", "e", "c"]
    assert first == second


def test_queries_beyond_the_limit_of_a_step_are_cut_and_asked_later() -> None:
    limits = AgentSettings(passages_per_search=3, max_queries=2)
    generator = make_generator(
        Search(TableBackend(MASK_PASSAGES)), limits, GeneratorSettings(needs_per_round=3)
    )
    [trajectory] = generate(generator, [MASKS])
    assert trajectory.accepted
    assert trajectory.queries == (("Ada Holt birth year", "Ada Holt employer"), ("Ada Holt city",))


def test_rounds_end_at_the_limit() -> None:
    generator = make_generator(Search(TableBackend(MASK_PASSAGES)), settings=GeneratorSettings(max_rounds=2))
    [trajectory] = generate(generator, [MASKS])
    assert len(trajectory.queries) == 2
    assert trajectory.stop_reason == "gave_up"


def test_a_comparison_looks_up_both_sides(search: Search, questions: list[SearchTask]) -> None:
    tasks = [task for task in questions if task.category == "comparison"]
    accepted = [t for t in generate(make_generator(search), tasks) if t.accepted]
    assert len(accepted) >= 0.8 * len(tasks)
    assert all(len(trajectory.queries) >= 2 for trajectory in accepted)


def test_the_state_is_plain_data_that_a_checkpointer_can_store(
    search: Search, ramp_tasks: list[SearchTask]
) -> None:
    graph = make_generator(search).builder.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    state = asyncio.run(graph.ainvoke({"task": dump_record(ramp_tasks[0])}, config))
    assert json.loads(json.dumps(state)) == state
    assert graph.get_state(config).values == state


def test_ids_depend_on_the_seed_and_on_what_was_made_with_which_prompts(
    search: Search, questions: list[SearchTask]
) -> None:
    task = questions[0]
    [first] = generate(make_generator(search), [task])
    [again] = generate(make_generator(search), [task])
    [other] = generate(make_generator(search, settings=GeneratorSettings(seed=1)), [task])
    prompted = asyncio.run(make_generator(search, prompts=FULL_PROMPTS).run_task(task))
    assert first == again
    assert len({first.id, other.id, prompted.id}) == 3
    assert first.producer == "hindsight"


def test_a_share_of_the_tasks_is_shown_fewer_passages_the_same_ones_each_time() -> None:
    found = [TOLD, OTHER, Passage("p3", "Kelm", "Kelm is a village.")]
    tasks = [
        SearchTask(f"q{number}", "qa", "Who?", (("Ada Holt",),), hops=(FOUNDER,)) for number in range(60)
    ]
    settings = GeneratorSettings(fewer_passages=(0.5, 0.25))
    generator = make_generator(Search(TableBackend({FOUNDER.query: found})), settings=settings)
    shown = [[len(passages) for passages in each.retrieved] for each in generate(generator, tasks)]
    counts = Counter(chain.from_iterable(shown))
    assert set(counts) == {1, 2, 3}
    assert 20 <= counts[1] <= 40
    assert 7 <= counts[2] <= 25
    assert [[len(passages) for passages in each.retrieved] for each in generate(generator, tasks)] == shown


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ((-0.1,), "at most 1 together"),
        ((0.6, 0.5), "at most 1 together"),
        ((float("nan"),), "a finite number"),
    ],
)
def test_shares_that_are_none_are_refused(shares: tuple[float, ...], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        GeneratorSettings(fewer_passages=shares)
