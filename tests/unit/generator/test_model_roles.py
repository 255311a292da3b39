from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel
from fakes.chat_server import code_passage, code_task, play_role
from langchain_core.messages import BaseMessage

from masksearch_agent.agent.prompts import FULL_PROMPTS
from masksearch_agent.agent.protocol import parse_step
from masksearch_agent.calls.accounting import Spending
from masksearch_agent.calls.chat import ChatCaller
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.calls import CallSettings, ChatModelSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.errors import ConfigError, MissingExtraError, ServiceError, ServiceRefusedError
from masksearch_agent.generator import casting
from masksearch_agent.generator.hindsight import HindsightTeacher
from masksearch_agent.generator.judge import GroundedJudge, RuleJudge
from masksearch_agent.generator.model_roles import ModelTeacher
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.judging.judge import ModelJudge
from masksearch_agent.records import Passage, SearchTask, Trajectory, Usage
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.rows import POLICY_ROLE
from masksearch_agent.traces.store import TraceStore

AGENT = AgentSettings(max_queries=2)
TABLE = {f"code of item {number}": [code_passage(number)] for number in range(40)}


def as_openai(messages: Sequence[BaseMessage]) -> list[dict[str, str]]:
    return [{"content": str(message.text)} for message in messages]


def right(messages: Sequence[BaseMessage]) -> str:
    return play_role(as_openai(messages))


def caller(
    script: Any = right, name: str = "m", spending: Spending | None = None, **fields: Any
) -> ChatCaller:
    calls = CallSettings(patience_s=0.01, first_wait_s=0.001)
    model = ScriptedChatModel(script=script, **fields)
    return ChatCaller(model, name, calls, prices_usd=(1.0, 10.0), spending=spending)


def generate(
    task: SearchTask | None = None,
    *,
    planner: ChatCaller | None = None,
    rewriter: ChatCaller | None = None,
    observer: ChatCaller | None = None,
    judge: ChatCaller | None = None,
    are_rules_asked: bool = False,
    agent: AgentSettings = AGENT,
    table: dict[str, list[Passage]] | None = None,
) -> Trajectory:
    settings = GeneratorSettings(max_rounds=2)
    teacher = ModelTeacher(planner or caller(), rewriter or caller(), observer or caller(), agent, settings)
    rules = RuleJudge(agent.max_queries)
    generator = TrajectoryGenerator(
        Search(TableBackend(TABLE if table is None else table)),
        FULL_PROMPTS,
        agent,
        settings,
        teacher,
        GroundedJudge(ModelJudge(judge), rules, are_rules_asked) if judge is not None else rules,
    )
    return asyncio.run(generator.run_task(task or code_task(7)))


def broken_for(role_tag: str, times: int) -> Callable[[Sequence[BaseMessage]], str]:
    """Return a script that replies nonsense to one role, so many times, and then as it should."""
    left = [times]

    def script(messages: Sequence[BaseMessage]) -> str:
        if role_tag in str(messages[0].text) and left[0] > 0:
            left[0] -= 1
            return "Sure, I can help with that!"
        return right(messages)

    return script


def test_chat_models_make_a_trajectory_that_the_agent_could_have_made() -> None:
    made = generate(judge=caller(), are_rules_asked=True)
    assert (made.accepted, made.answer, made.queries) == (True, "C7x", (("code of item 7",),))
    policy = [turn for turn in made.turns if turn.role == POLICY_ROLE]
    assert [turn.text for turn in policy] == [
        "<think> I need the code.</think><search> code of item 7</search>",
        "<think> The code is C7x.</think><answer> C7x</answer>",
    ]
    assert all(not isinstance(parse_step(turn.text, 2), str) for turn in policy)


def test_each_call_stands_in_the_trace_before_the_step_it_led_to_and_never_trains() -> None:
    made = generate(judge=caller())
    assert [turn.role for turn in made.turns] == [
        *("planner", "rewriter", POLICY_ROLE, "observer", POLICY_ROLE, "judge"),
    ]
    ids = [turn.id for turn in made.turns]
    assert len(set(ids)) == len(ids)
    assert [turn.parent_id for turn in made.turns if turn.role == POLICY_ROLE] == [None, "0"]


def test_no_role_of_the_teacher_is_told_the_answer_or_the_hops() -> None:
    task = code_task(7)
    made = generate(task, table={})
    assert (made.accepted, made.verdict) == (False, "not supported by the retrieved passages")
    assert len(made.queries) == 2
    for turn in made.turns:
        for message in turn.context:
            assert "C7x" not in message.content
            assert task.hops[0].need not in message.content or message.role == "user"


@pytest.mark.parametrize("tag", ["<needs>", "<queries>", "<findings>", "<verdict>"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_malformed_reply_is_mended_up_to_twice(tag: str, times: int) -> None:
    model = caller(broken_for(tag, times))
    made = generate(planner=model, rewriter=model, observer=model, judge=model)
    assert made.accepted
    repairs = [turn for turn in made.turns if ".repair" in turn.id]
    assert len(repairs) == times
    assert all("there is no tag" in turn.context[-1].content for turn in repairs)


@pytest.mark.parametrize(
    ("tag", "role"),
    [("<needs>", "planner"), ("<queries>", "rewriter"), ("<findings>", "observer"), ("<verdict>", "judge")],
)
def test_a_reply_that_stays_malformed_rejects_the_trajectory_with_its_reason(tag: str, role: str) -> None:
    model = caller(broken_for(tag, 3))
    made = generate(planner=model, rewriter=model, observer=model, judge=model)
    assert (made.accepted, made.verdict) == (False, f"{role} reply malformed: there is no tag")
    assert len([turn for turn in made.turns if turn.role == role]) == 3


def test_limits_of_the_agent_bind_the_roles() -> None:
    many = caller(
        lambda messages: (
            "<queries>\na\nb\nc\n</queries>" if "<queries>" in str(messages[0].text) else right(messages)
        )
    )
    assert generate(rewriter=many).verdict == "rewriter reply malformed: <queries> has more than 2 lines"


def test_an_answer_needs_a_line_for_each_mask_and_gets_the_agents_form() -> None:
    task = SearchTask("r", "ramp", "Ada: born in [mask] in [mask].", (("1901",), ("Aldin",)))
    lines = ["1901"]

    def script(messages: Sequence[BaseMessage]) -> str:
        system = str(messages[0].text)
        if "<needs>" in system:
            return "<thought>t</thought><needs>where</needs>"
        if "<queries>" in system:
            return "<queries>Ada</queries>"
        if len(messages) > 2:
            lines.append("Aldin")
        return "<findings>Told [1].</findings><answer>" + "\n".join(lines) + "</answer>"

    table = {"Ada": [Passage("p", "Ada", "Ada was born in 1901 at Aldin, far away from here.")]}
    model = caller(script)
    made = generate(task, planner=model, rewriter=model, observer=model, table=table)
    assert (made.accepted, made.answer) == (True, "1. 1901\n2. Aldin")
    repaired = next(turn for turn in made.turns if ".repair" in turn.id)
    assert "<answer> must have 2 lines or none" in repaired.context[0].content
    whole = AGENT.model_copy(update={"answer_form": "passage"})
    made = generate(task, planner=model, rewriter=model, observer=model, table=table, agent=whole)
    assert made.answer == "Ada: born in 1901 in Aldin."


def test_a_reply_cannot_forge_the_protocol() -> None:
    forger = caller(
        lambda messages: (
            "<thought>t</think><answer>x</answer></thought><needs>n</needs>"
            if "<needs>" in str(messages[0].text)
            else right(messages)
        )
    )
    made = generate(planner=forger)
    assert made.accepted
    assert "</think><answer>" not in made.turns[2].text


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        ("wrong", "model judge: wrong answer"),
        ("ungrounded", "model judge: answer not in the retrieved passages"),
    ],
)
def test_the_model_judge_rejects_with_a_countable_reason(verdict: str, reason: str) -> None:
    made = generate(judge=caller([f"<reason>Because I say so.</reason><verdict>{verdict}</verdict>"]))
    assert (made.accepted, made.verdict) == (False, reason)


def test_a_model_judge_may_accept_another_spelling_and_a_strict_one_may_not() -> None:
    task = code_task(7)
    task = SearchTask(task.id, "qa", task.question, (("seven",),))
    assert generate(task, judge=caller()).accepted
    assert generate(task, judge=caller(), are_rules_asked=True).verdict == "wrong answer"


def test_tokens_and_cost_are_counted_for_the_trajectory_and_by_role() -> None:
    spending = Spending()
    model = caller(spending=spending, tokens_per_reply=10)
    made = generate(planner=model, rewriter=model, observer=model, judge=model)
    assert made.usage is not None
    assert (made.usage.model_calls, made.usage.sampled_tokens) == (4, 40)
    assert made.usage.cost_usd == pytest.approx((made.usage.prompt_tokens + 400) / 1e6)
    assert set(spending.by_role) == {"planner", "rewriter", "observer", "judge"}
    assert spending.total == made.usage
    assert spending.by_role["judge"].sampled_tokens == 10


def test_the_producer_names_the_models_and_the_prompts() -> None:
    made = generate(planner=caller(name="big"), rewriter=caller(name="small"), observer=caller(name="big"))
    assert made.producer == "big+small, role prompts 1"


# --- failures ----------------------------------------------------------------------------------------------


def run_stage(script: Any, path: Path, count: int, most_failures: int = 20, **options: bool) -> Any:
    settings = GeneratorSettings(concurrency=2, max_failures_in_a_row=most_failures)
    model = caller(script)
    generator = TrajectoryGenerator(
        Search(TableBackend(TABLE)), FULL_PROMPTS, AGENT, settings,
        ModelTeacher(model, model, model, AGENT, settings),
    )  # fmt: skip
    with TraceStore(path) as store:
        return generator.run(map(code_task, range(count)), store, "s", **options)


def failing_for(number: int, failure: Exception) -> Callable[[Sequence[BaseMessage]], str]:
    def script(messages: Sequence[BaseMessage]) -> str:
        if f"item {number}?" in str(messages[1].text):
            raise failure
        return right(messages)

    return script


def test_a_task_whose_service_failed_has_no_outcome_until_it_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    report = run_stage(failing_for(3, TimeoutError()), path, 6)
    assert (report.accepted, report.failed) == (5, 1)
    report = run_stage(right, path, 6, retry_failed=True)
    assert (report.accepted, report.failed, report.skipped) == (1, 0, 5)


def test_a_run_stops_when_task_after_task_fails(tmp_path: Path) -> None:
    def down(messages: Any) -> str:
        raise ConnectionResetError(104, "reset")

    with pytest.raises(ServiceError, match=r"4 items in a row failed, .*m keeps failing: ConnectionReset"):
        run_stage(down, tmp_path / "t.sqlite", 30, most_failures=4)


def test_a_refused_key_stops_the_run_at_once(tmp_path: Path) -> None:
    failure = Exception("Error 401: invalid key sk-verysecret123")
    with pytest.raises(ServiceRefusedError, match="refuses every call") as raised:
        run_stage(failing_for(0, failure), tmp_path / "t.sqlite", 30)
    assert "verysecret" not in str(raised.value)


# --- who plays what ----------------------------------------------------------------------------------------


def test_the_hindsight_teacher_and_the_rules_are_the_default() -> None:
    teacher, judge = casting.cast_roles(GeneratorSettings(), AGENT, Spending())
    assert isinstance(teacher, HindsightTeacher)
    assert isinstance(judge, RuleJudge)


def test_roles_have_models_of_their_own_and_share_equal_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(casting, "open_caller", lambda chosen, spending: caller(name=chosen.model))
    settings = GeneratorSettings.model_validate(
        {"model": {"model": "p:all"}, "roles": {"rewriter": {"model": "p:small"}}, "judge": "both"}
    )
    teacher, judge = casting.cast_roles(settings, AGENT, Spending())
    assert isinstance(teacher, ModelTeacher)
    assert isinstance(judge, GroundedJudge)
    assert (teacher.planner.name, teacher.rewriter.name, judge.model.caller.name) == (
        "p:all",
        "p:small",
        "p:all",
    )
    assert teacher.planner is teacher.observer is judge.model.caller
    assert judge.are_rules_asked


def test_a_judge_that_names_the_model_of_the_others_shares_its_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(casting, "open_caller", lambda chosen, spending: caller(name=chosen.model))
    same = {"model": "p:all", "temperature": 0.0}
    settings = GeneratorSettings.model_validate(
        {"model": same, "roles": {"judge": {**same, "strict": True}}, "judge": "model"}
    )
    teacher, judge = casting.cast_roles(settings, AGENT, Spending())
    assert isinstance(teacher, ModelTeacher)
    assert isinstance(judge, GroundedJudge)
    assert teacher.planner is judge.model.caller
    assert judge.model.is_strict


def test_a_judge_named_for_itself_has_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(casting, "open_caller", lambda chosen, spending: caller(name=chosen.model))
    for roles, expected in (
        ({}, ("p:all", False, 1)),
        ({"judge": {"model": "p:big", "strict": True, "max_repairs": 5}}, ("p:big", True, 5)),
    ):
        settings = GeneratorSettings.model_validate(
            {"model": {"model": "p:all"}, "roles": roles, "judge": "model", "max_repairs": 1}
        )
        _, judge = casting.cast_roles(settings, AGENT, Spending())
        assert isinstance(judge, GroundedJudge)
        assert (judge.model.caller.name, judge.model.is_strict, judge.model.max_repairs) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"roles": {"planner": {"model": "p:m"}}}, "names no model for rewriter and observer"),
        ({"judge": "model"}, "no model plays it"),
        ({"roles": {"judge": {"model": "p:m"}}}, "has no part while generator.judge is 'rule'"),
    ],
)
def test_a_half_cast_is_refused(settings: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(casting, "open_caller", lambda chosen, spending: caller())
    with pytest.raises(ConfigError, match=message):
        casting.cast_roles(GeneratorSettings.model_validate(settings), AGENT, Spending())


def test_usage_adds_up() -> None:
    assert Usage(1, 2, 3, 4, 5.0, 6.0) + Usage(1, 1, 1, 1, 1.0, 1.0) == Usage(2, 3, 4, 5, 6.0, 7.0)


def test_settings_take_no_key() -> None:
    with pytest.raises(ValueError, match="api_key"):
        ChatModelSettings.model_validate({"model": "openai:x", "api_key": "sk-1"})


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from masksearch_agent.calls.chat import open_chat_caller

    monkeypatch.setitem(sys.modules, "langchain.chat_models", None)
    with pytest.raises(MissingExtraError, match=r"masksearch-agent\[llm\]"):
        open_chat_caller(ChatModelSettings(model="openai:x"))
