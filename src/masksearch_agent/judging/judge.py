"""The judge: a chat model says whether an answer is right and, where it is shown passages, grounded in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masksearch_agent.calls.accounting import CallLog, Spending
from masksearch_agent.calls.chat import ChatCaller, open_chat_caller
from masksearch_agent.config.calls import ChatModelSettings
from masksearch_agent.config.judging import JudgeSettings
from masksearch_agent.judging.prompt import Judgement, judge_prompt
from masksearch_agent.records import Passage, SearchTask

__all__ = ("ModelJudge", "open_caller", "open_judge")

_LOCAL_TIMEOUT_S = 3600.0
"""Calls of a model in this process wait for their turn, which is no failure."""


@dataclass(frozen=True)
class ModelJudge:
    """Judges answers with any chat model."""

    caller: ChatCaller
    """A temperature of 0 makes its verdicts repeat."""
    is_strict: bool = False
    """FreshEval's strict mode: what an answer adds has to be accurate and up to date too."""
    max_repairs: int = 2
    """How often the judge is told what is wrong with its reply."""

    async def judge(
        self,
        task: SearchTask,
        answer: str,
        *,
        passages: Sequence[Passage] | None = None,
        log: CallLog | None = None,
        turn_id: str = "judge",
    ) -> Judgement:
        """Return the verdict with its reason; a blank answer is wrong without asking.

        Args:
            passages: What the answer has to be grounded in; None asks only whether it is right.
            log: Where the calls are written, the first one as `turn_id`.

        Raises:
            ReplyError: The judge gave no verdict.
            ServiceError: Its server kept failing.
            ServiceRefusedError: Its server refuses for good.
        """
        if not answer.strip():
            return Judgement(reason="There is no answer.", verdict="wrong")

        def check(said: Judgement) -> str:
            is_asked_for = said.verdict != "ungrounded" or passages is not None
            return "" if is_asked_for else "<verdict> must be right or wrong"

        return await self.caller.ask(
            judge_prompt(task, answer, passages, self.is_strict),
            Judgement,
            "judge",
            check=check,
            max_repairs=self.max_repairs,
            log=log,
            turn_id=turn_id,
        )


def open_judge(settings: JudgeSettings, spending: Spending | None = None) -> ModelJudge:
    """Open the judge that settings name; as `open_caller`, and raises what that raises."""
    return ModelJudge(open_caller(settings, spending), settings.strict, settings.max_repairs)


def open_caller(settings: ChatModelSettings, spending: Spending | None = None) -> ChatCaller:
    """Open a chat model that hundreds of calls at once may ask, by its LangChain name or from a checkpoint folder.

    Whoever asks it awaits `connections.close_connections` before the event loop ends.

    Raises:
        MissingExtraError: LangChain, its package for the provider, or for a folder transformers is not installed.
        ModelError: It is a folder that cannot be loaded.
        ServiceRefusedError: The model cannot be set up, mostly because its key is not set.
    """
    if not Path(settings.model).is_dir():
        return open_chat_caller(settings, spending, has_many_calls=True)
    from masksearch_agent.models.local import LocalChatModel

    options = settings.model_dump(include={"temperature", "max_tokens"}, exclude_none=True)
    model = LocalChatModel.from_pretrained(settings.model, **options)
    timeout_s = max(settings.calls.timeout_s, _LOCAL_TIMEOUT_S)
    calls = settings.calls.model_copy(update={"timeout_s": timeout_s})
    return ChatCaller(model, settings.model, calls, spending=spending)
