"""Every error type of the package, one per boundary.

Each message says what was wrong, what was received, what was expected and what to do next. All of them
derive from `MaskSearchError`, so an application can catch one type.
"""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = (
    "AgentError",
    "BundleError",
    "ClusterError",
    "ConfigError",
    "CorpusError",
    "EvaluationError",
    "GenerationError",
    "MaskSearchError",
    "MissingExtraError",
    "ModelError",
    "OutOfTimeError",
    "ReplyError",
    "RetrievalError",
    "RewardError",
    "SamplerDriftError",
    "ServiceError",
    "ServiceRefusedError",
    "ServingError",
    "TaskError",
    "ThreadReuseError",
    "TraceError",
    "TrainingError",
    "UnreadableDocumentError",
    "needs_extra",
)


class MaskSearchError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(MaskSearchError):
    """A recipe or a setting is wrong: an unknown key, a value out of range, an unreadable file."""


class MissingExtraError(MaskSearchError):
    """An optional dependency, named as it is imported (`torch`), is not installed; an extra (`train`) installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; run `pip install 'masksearch-agent[{extra}]'` and try again."
        )
        self.package = package
        self.extra = extra


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Raise `MissingExtraError`, which names the extra to install, where an import in the block fails."""
    try:
        yield
    except ImportError as failure:
        raise MissingExtraError((failure.name or "a package").partition(".")[0], extra) from failure


class CorpusError(MaskSearchError):
    """Documents or passages cannot be read: a missing path, an unknown format, an empty corpus."""


class UnreadableDocumentError(CorpusError):
    """One document cannot be used. Readers report it and go on with the next.

    The reason is a few words to count it under, the same for all documents with this trouble; the detail says what was
    wrong with this one. One that has not failed is left out on purpose, such as a redirect.
    """

    def __init__(self, reason: str, detail: str = "", has_failed: bool = True) -> None:
        super().__init__(detail or reason)
        self.reason, self.has_failed = reason, has_failed


class RetrievalError(MaskSearchError):
    """An index cannot be built or opened, or a search backend failed for good."""


class ServiceError(MaskSearchError):
    """A chat model's server or a web search failed and kept failing. The same call may succeed later."""


class ServiceRefusedError(MaskSearchError):
    """A service refused for good: a key is missing or wrong, or the model does not exist. Every call would fail."""


class ReplyError(MaskSearchError):
    """A chat model's reply stayed malformed after it was told what was wrong with it."""


class TaskError(MaskSearchError):
    """A search task is malformed or a task file cannot be read."""


class TraceError(MaskSearchError):
    """A trace is incomplete or inconsistent, or the trace store is corrupt."""


class ModelError(MaskSearchError):
    """A model or tokenizer cannot be loaded or used: no pad token, an unsafe chat template, bad settings."""


class ServingError(MaskSearchError):
    """A model server cannot be started or reached, or does not do what was asked of it."""


class BundleError(MaskSearchError):
    """An agent bundle is missing a file, is malformed, or was written for another protocol version."""


class AgentError(MaskSearchError, ValueError):
    """The search agent received input it cannot use.

    A `ValueError`, because a LangGraph server tells its clients the message of one and hides those of errors that it
    does not know.
    """


class OutOfTimeError(MaskSearchError):
    """A call took longer than the time that a run had left, and was given up."""


class ThreadReuseError(AgentError):
    """A rollout was to run on a thread that has run before, whose conversation it would go on with."""


class GenerationError(MaskSearchError):
    """Trajectory generation cannot start or go on."""


class RewardError(MaskSearchError):
    """A trajectory cannot be scored, for example because the judge model gave no usable verdict."""


class TrainingError(MaskSearchError):
    """Training cannot start or go on: no data, settings that do not fit together, a diverged loss."""


class SamplerDriftError(TrainingError):
    """What samples the rollouts is no longer the policy that is trained: their log-probabilities differ too much."""


class EvaluationError(MaskSearchError):
    """An evaluation cannot start: an unknown benchmark, a malformed file, no questions left."""


class ClusterError(MaskSearchError):
    """A cluster cannot be started or reached, or its workers cannot do their part."""
