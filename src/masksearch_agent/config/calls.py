"""Settings of calls to services that are not ours: chat models and web searches.

There is no setting for an API key: keys come from the environment, under the names that their vendors use.
"""

from __future__ import annotations

from pydantic import Field

from masksearch_agent.config.base import Settings

__all__ = ("CallSettings", "ChatModelSettings")


class CallSettings(Settings):
    """How patient a caller is with a service."""

    timeout_s: float = Field(default=60.0, gt=0)
    """Wall time of one attempt."""
    patience_s: float = Field(default=600.0, ge=0)
    """A call that still fails this long after it began is given up; at once where its server wants to be asked again
    only after that."""
    first_wait_s: float = Field(default=0.5, gt=0)
    """Wait after the first failed attempt; it doubles with each one, and is drawn from its upper half."""
    longest_wait_s: float = Field(default=30.0, gt=0)
    """Where the doubling ends. A server's `Retry-After` may ask for more."""
    requests_per_second: float | None = Field(default=None, gt=0)
    """Attempts started per second, over all callers of this process; None for as many as come."""


class ChatModelSettings(Settings):
    """A chat model by its LangChain name, and how it is called."""

    model: str
    """`provider:name`, as `init_chat_model` takes it: `openai:gpt-5-mini`, `anthropic:claude-haiku-4-5`,
    `ollama:qwen3`."""
    base_url: str | None = None
    """Address of the server, for one that speaks the provider's protocol; None for the provider's own."""
    temperature: float | None = Field(default=None, ge=0)
    """None leaves the provider's default."""
    max_tokens: int | None = Field(default=2048, ge=1)
    """Sampled tokens of one reply; None leaves the provider's default."""
    structured: bool = False
    """Ask for replies through the provider's structured output instead of tags in plain text."""
    usd_per_million_prompt_tokens: float = Field(default=0.0, ge=0)
    usd_per_million_sampled_tokens: float = Field(default=0.0, ge=0)
    calls: CallSettings = CallSettings()
