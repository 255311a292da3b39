"""Who plays the generator's roles, by its settings."""

from __future__ import annotations

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.calls.chat import ChatCaller
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.calls import ChatModelSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.config.judging import JudgeSettings
from masksearch_agent.errors import ConfigError
from masksearch_agent.generator.hindsight import HindsightTeacher
from masksearch_agent.generator.judge import GroundedJudge, RuleJudge
from masksearch_agent.generator.model_roles import ModelTeacher
from masksearch_agent.generator.roles import Judge, Teacher
from masksearch_agent.judging.judge import ModelJudge, open_caller

__all__ = ("cast_roles",)

_TEACHER_ROLES = ("planner", "rewriter", "observer")


def cast_roles(
    settings: GeneratorSettings, agent_settings: AgentSettings, spending: Spending
) -> tuple[Teacher, Judge]:
    """Return the teacher and the judge that the settings name; without a model, the hindsight teacher and the rules.

    Raises:
        ConfigError: Some roles of the teacher have a model and others have none, or the judge's does not fit.
    """
    opened: dict[ChatModelSettings, ChatCaller] = {}

    def caller(role: str) -> ChatCaller | None:
        chosen = getattr(settings.roles, role) or settings.model
        if chosen is None:
            return None
        # One caller per model, so that roles which share a model share its rate and its pauses; how strict a judge
        # is makes no other model of it.
        model = ChatModelSettings(**{name: getattr(chosen, name) for name in ChatModelSettings.model_fields})
        if model not in opened:
            opened[model] = open_caller(model, spending)
        return opened[model]

    planner, rewriter, observer = (caller(role) for role in _TEACHER_ROLES)
    teacher: Teacher
    if planner is not None and rewriter is not None and observer is not None:
        teacher = ModelTeacher(planner, rewriter, observer, agent_settings, settings)
    elif planner is rewriter is observer is None:
        teacher = HindsightTeacher(settings, agent_settings.answer_form)
    else:
        missing = [role for role in _TEACHER_ROLES if getattr(settings.roles, role) is None]
        raise ConfigError(
            f"generator.roles names no model for {' and '.join(missing)}; name one for each of planner, rewriter and "
            "observer, or set generator.model for all"
        )
    rules = RuleJudge(agent_settings.max_queries)
    if settings.judge == "rule":
        if settings.roles.judge is not None:
            raise ConfigError(
                "generator.roles.judge has no part while generator.judge is 'rule'; set it to model or both"
            )
        return teacher, rules
    asked = caller("judge")
    if asked is None:
        raise ConfigError(
            f"generator.judge is {settings.judge!r} but no model plays it; set generator.roles.judge or generator.model"
        )
    own = settings.roles.judge or JudgeSettings(model=asked.name, max_repairs=settings.max_repairs)
    judge = ModelJudge(asked, own.strict, own.max_repairs)
    return teacher, GroundedJudge(judge, rules, settings.judge == "both")
