"""From our settings of an optimizer and of adapters to what the trainers of transformers and TRL take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masksearch_agent.config.trainers import DAPOSettings, OptimizerSettings, SFTSettings
from masksearch_agent.environment import computes_bfloat16
from masksearch_agent.plugins import OPTIMIZERS

__all__ = ("lora_config", "optimizer_arguments", "shared_arguments")


def optimizer_arguments(
    settings: OptimizerSettings,
) -> tuple[dict[str, Any], tuple[Any, dict[str, Any]] | None]:
    """Return what `TrainingArguments` and the trainer's `optimizer_cls_and_kwargs` take."""
    schedule: str = settings.schedule
    if schedule == "constant" and settings.warmup_ratio > 0:
        schedule = "constant_with_warmup"  # `constant` takes no notice of a warm-up
    arguments = {
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": schedule,
        "warmup_steps": settings.warmup_ratio,  # below 1 it is a share of all steps
        "max_grad_norm": settings.max_gradient_norm,
    }
    if settings.name == "adamw":
        return arguments, None
    make_optimizer = OPTIMIZERS.get(settings.name)
    return arguments, (lambda: make_optimizer, {"settings": settings})


def shared_arguments(settings: SFTSettings | DAPOSettings, output_dir: Path) -> dict[str, Any]:
    """Return the `TrainingArguments` that SFT and DAPO have in common, the optimizer's among them."""
    import torch

    arguments, _ = optimizer_arguments(settings.optimizer)
    return {
        "output_dir": str(output_dir),
        "max_steps": settings.max_steps,
        # A recipe is of one machine and runs on others.
        "bf16": settings.bf16 and computes_bfloat16(),
        "activation_checkpointing": settings.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        # With one alone, a trainer that is done deletes the last checkpoint where an earlier one is better, and a run
        # that is killed just then would train again from there.
        "save_total_limit": 1 if settings.monitor is None else 2,
        "report_to": [],
        "disable_tqdm": True,
        "seed": settings.seed,
        **arguments,
    }


def lora_config(rank: int) -> Any:
    """Return adapters of a rank on all linear layers; None for rank 0, which trains every weight."""
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
