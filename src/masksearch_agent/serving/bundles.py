"""Serving an agent bundle's model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from masksearch_agent.agent.bundle import read_bundle_info
from masksearch_agent.config.serving import ServingSettings
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.models.served_weights import write_served_weights
from masksearch_agent.serving.server import ModelServer, start_server

__all__ = ("serve_bundle",)


@contextmanager
def serve_bundle(
    directory: Path, settings: ServingSettings, log_path: Path | None = None, is_refreshable: bool = False
) -> Iterator[ModelServer]:
    """Serve a bundle's model, under the bundle's model version as its name, until the context ends.

    See `start_server`; a refreshable vLLM reads a copy of the bundle that it can read again.

    Raises:
        BundleError: There is no bundle.
        ServingError: No server is installed, or it did not start.
    """
    info = read_bundle_info(directory)
    with ExitStack() as stack:
        served = directory
        if is_refreshable:
            served = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="masksearch-served-")))
            model, tokenizer = load_checkpoint(directory)
            write_served_weights(model, model.state_dict(), tokenizer, served)
            del model
        server = start_server(served, info.model_version, settings, log_path, is_refreshable)
        yield stack.enter_context(server)
