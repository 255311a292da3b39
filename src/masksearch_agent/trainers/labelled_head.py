"""SFT on a CPU that projects to the vocabulary only where a label stands (`logprobs` says why)."""

from __future__ import annotations

from typing import Any

from trl import SFTTrainer

from masksearch_agent.trainers.logprobs import score_labels

__all__ = ("LabelledHeadTrainer",)


class LabelledHeadTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with the same loss and metrics, computed from the logits of labelled positions alone."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch whose rows are padded at their end."""

        def score(attention_mask: Any, fused_lm_head: bool, **scored: Any) -> Any:
            # Padding at the end of a row is behind all that could attend to it, and attention without a mask takes half
            # the time.
            return score_labels(model, **scored)

        return super().compute_loss(score, inputs, *args, **kwargs)
