"""A chat model within what an application puts around it: `bind`, `with_config`, `with_retry`.

LangChain asks the model within for its tools, its structured output and its fields, and forgets what stood around it
(keywords, callbacks, retries), or finds no such method. Here the model within is changed, and what stood around it
stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase

__all__ = ("bare_model", "changed_within")


def bare_model(model: Any) -> Any:
    """Return the model within."""
    while isinstance(model, RunnableBindingBase):
        model = model.bound
    return model


def changed_within(
    model: Runnable[Any, Any],
    change: Callable[[Any], Runnable[Any, Any]],
    replaced: Collection[str] | None = (),
) -> Runnable[Any, Any]:
    """Return a model whose inner model is changed.

    Args:
        model: Of any number of layers.
        change: Makes something else of the model within.
        replaced: Bound keywords that the change has words of its own for; None for all, where it takes none.
    """
    if not isinstance(model, RunnableBindingBase):
        return change(model)
    kept = {} if replaced is None else {k: v for k, v in model.kwargs.items() if k not in replaced}
    return model.model_copy(update={"bound": changed_within(model.bound, change, replaced), "kwargs": kept})
