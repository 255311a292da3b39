"""Who plays the generator's roles, by its settings."""

from __future__ import annotations

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.calls.chat import ChatCaller, open_chat_caller
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.calls import ChatModelSettings
from masksearch_agent.config.generator import GeneratorSettings, RoleName
from masksearch_agent.errors import ConfigError
from masksearch_agent.generator.hindsight import HindsightTeacher
from masksearch_agent.generator.judge import RuleJudge
from masksearch_agent.generator.model_roles import ModelJudge, ModelTeacher
from masksearch_agent.generator.roles import Judge, Teacher

__all__ = ("cast_roles",)

_TEACHER_ROLES: tuple[RoleName, ...] = ("planner", "rewriter", "observer")


def cast_roles(
    settings: GeneratorSettings, agent_settings: AgentSettings, spending: Spending
) -> tuple[Teacher, Judge]:
    """Return the teacher and the judge that the settings name.

    Args:
        settings: Without `model` and `roles`, the hindsight teacher and the rule judge.
        agent_settings: Limits of the agent to be trained.
        spending: Where the calls of all models are counted.

    Raises:
        ConfigError: Some roles of the teacher have a model and others have none.
    """
    opened: dict[ChatModelSettings, ChatCaller] = {}

    def caller(role: RoleName) -> ChatCaller | None:
        chosen = settings.roles.get(role, settings.model)
        if chosen is not None and chosen not in opened:
            # One caller per model, so that roles which share a model share its rate and its pauses.
            opened[chosen] = open_chat_caller(chosen, spending, has_many_calls=True)
        return opened[chosen] if chosen is not None else None

    planner, rewriter, observer = (caller(role) for role in _TEACHER_ROLES)
    teacher: Teacher
    if planner is not None and rewriter is not None and observer is not None:
        teacher = ModelTeacher(planner, rewriter, observer, agent_settings, settings)
    elif planner is rewriter is observer is None:
        teacher = HindsightTeacher(settings, agent_settings.answer_form)
    else:
        missing = [role for role in _TEACHER_ROLES if role not in settings.roles]
        raise ConfigError(
            f"generator.roles names no model for {' and '.join(missing)}; name one for each of planner, rewriter and "
            "observer, or set generator.model for all"
        )
    rules = RuleJudge(agent_settings.max_queries)
    if settings.judge == "rule":
        if "judge" in settings.roles:
            raise ConfigError(
                "generator.roles.judge has no part while generator.judge is 'rule'; set it to model or both"
            )
        return teacher, rules
    judge = caller("judge")
    if judge is None:
        raise ConfigError(
            f"generator.judge is {settings.judge!r} but no model plays it; set generator.roles.judge or generator.model"
        )
    return teacher, ModelJudge(judge, rules, settings.judge == "both", settings.max_repairs)
