"""Settings of the training stages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from masksearch_agent.config.base import Settings

__all__ = (
    "AlarmName",
    "CurriculumLevel",
    "DAPOSettings",
    "LossName",
    "MonitorSettings",
    "OptimizerSettings",
    "SFTSettings",
)

AlarmName = Literal["exam", "likelihood", "entropy", "all_wrong", "non_finite"]
"""What a monitor warns of: the exam's score stays below its best; so does the likelihood of right answers; the entropy
of sampled tokens vanishes (DAPO); every group is wholly wrong (DAPO); a loss or gradient is not a number."""


LossName = Literal["dapo", "gspo", "cispo", "dr_grpo"]
"""An objective of RL."""


class OptimizerSettings(Settings):
    """Which optimizer, and how fast."""

    name: str = "adamw"
    """`adamw`, or one that a package brings (`plugins.OPTIMIZERS`). `muon` gives hidden matrices to Muon and the rest
    to AdamW; meant for tiny models made from scratch."""
    learning_rate: float = Field(default=2e-5, gt=0)
    """Of AdamW."""
    muon_learning_rate: float = Field(default=0.02, gt=0)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    """Share of all steps over which the rate rises from 0, with which the first changes nothing; of every schedule."""
    max_gradient_norm: float = Field(default=1.0, gt=0)


class MonitorSettings(Settings):
    """Whether a stage is still getting better, asked while it trains: an exam, and what it comes to where it falls."""

    every_steps: int = Field(default=50, gt=0)
    """Steps from one exam to the next; there is one before the first step and one after the last, too. DAPO rounds up
    to whole rollout batches (`updates_per_rollout`)."""
    tasks: int = Field(default=48, gt=0)
    """Tasks of the exam that are asked each time, the same ones; a choice by chance where it has more."""
    tolerance: float = Field(default=0.05, ge=0)
    """By how much the exam's recall may be below its best."""
    patience: int = Field(default=3, gt=0)
    """Exams in a row below that, after which the run is taken to have gone wrong."""
    keep_best: bool = True
    """Whether the stage makes the weights that did best in the exam; otherwise the last ones. A run that an alarm stops
    goes back to the best ones whatever this says."""
    stop_on: tuple[AlarmName, ...] = ("exam", "non_finite")
    """Alarms that stop the run; all of them are logged."""


class SFTSettings(Settings):
    """Supervised fine-tuning on accepted trajectories."""

    batch_size: int = Field(default=16, gt=0)
    """Rows per device and step."""
    gradient_accumulation: int = Field(default=1, gt=0)
    """Micro-batches of a step. With several rows each, the rows of a step are divided among them by their length, so
    that less is padded: of short rows a micro-batch has more than `batch_size`. What a step learns from is the same."""
    epochs: float = Field(default=1.0, gt=0)
    max_steps: int = -1
    """Overrides `epochs` where positive."""
    max_tokens: int = Field(default=2048, gt=0)
    """Longer rows are left out and counted, never cut: a cut row would train half a step."""
    optimizer: OptimizerSettings = OptimizerSettings()
    ramp_share: float = Field(default=0.0, ge=0, lt=1)
    """Stage II: share of the trajectories that are RAMP's, drawn by seed, so that it is not unlearned
    (`trainers.mixing`). 0 trains on questions alone."""
    curriculum: bool = False
    """Read rows in order of their tasks' number of masks instead of shuffled."""
    lora_rank: int = Field(default=0, ge=0)
    """Rank of LoRA adapters on all linear layers; 0 trains every weight."""
    bf16: bool = False
    gradient_checkpointing: bool = False
    save_steps: int = Field(default=200, gt=0)
    monitor: MonitorSettings | None = None
    """Asks an exam while it trains, where the stage is given one; None: never, and alarms only warn."""
    seed: int = Field(default=0, ge=0, lt=2**32)


class CurriculumLevel(Settings):
    """A stretch of the curriculum. It ends at a share of the steps, or by promotion, whichever comes first; without
    either it lasts to the end of the run, as the last level always does."""

    max_masks: int = Field(ge=1)
    """Tasks with up to this many masks are drawn."""
    until: float | None = Field(default=None, gt=0, le=1)
    """Share of all steps after which the next level begins."""
    promote_at: float | None = Field(default=None, gt=0, le=1)
    """Success rate, the share of rollouts with a wholly right answer, at which the next level begins. It is taken over
    the level's hardest tasks only, before dynamic sampling leaves any out."""
    window: int = Field(default=32, gt=0)
    """Groups of the hardest tasks over which the success rate is taken; there is no promotion before as many."""


class DAPOSettings(Settings):
    """DAPO (arXiv 2503.14476) with rollouts through the agent graph. Defaults follow its section 4.1 where the
    scale allows."""

    prompts_per_step: int = Field(default=16, gt=0)
    """Of all processes together, so that a recipe means the same on one and on several."""
    group_size: int = Field(default=8, gt=1)
    """Rollouts per prompt."""
    max_steps: int = Field(default=30, gt=0)
    loss: LossName = "dapo"
    """The objective (`trainers.loss`): `dapo` (every token counts the same, clip-higher), `gspo` (a rollout's ratio is
    clipped as a whole; arXiv 2507.18071), `cispo` (the clipped ratio is a weight, so no token loses its gradient; arXiv
    2506.13585) or `dr_grpo` (no division by lengths or standard deviations; arXiv 2503.20783)."""
    epsilon_low: float | None = Field(default=None, gt=0)
    """How far the ratio may fall below 1. None: as the loss's paper has it: 0.2 (DAPO, Dr. GRPO), 0.0003 (GSPO), 1
    (CISPO: no bound)."""
    epsilon_high: float | None = Field(default=None, gt=0)
    """How far it may rise above 1: 0.28 (DAPO: clip-higher), 0.2 (Dr. GRPO), 0.0004 (GSPO), 4 (CISPO)."""
    wrong_answer_kl: float = Field(default=0.0, ge=0)
    """What each nat by which the policy has moved away from where training began costs, on rollouts whose answer is not
    wholly right (DGPO, arXiv 2508.20324, with the start as its teacher). 0: nothing, and no copy is held."""
    max_staleness: int = Field(default=0, ge=0, le=1)
    """Batches of rollouts by which the weights that sample may be behind those that are trained. 1: the next batch is
    sampled while one is trained on (`trainers.ahead`), by one process that trains; the local engine then holds a copy
    of the weights. Rollouts that are under way when a step is done go on with its weights from their next turn. When
    that is depends on the clock, so two runs of one seed differ. A run that is killed samples the batch after its
    checkpoint anew, with the newest weights."""
    updates_per_rollout: int = Field(default=1, gt=0)
    """Optimizer steps on each batch of rollouts; the paper takes 16."""
    dynamic_sampling: bool = True
    """Leave groups of equal rewards out and draw others in their place. False trains on one batch of rollouts as it is,
    as GRPO does: such groups have no advantage, but their tokens count in the loss's normaliser."""
    max_resampling: int = Field(default=4, gt=0)
    """Dynamic sampling: groups rolled out at most to fill one training batch, in sizes of that batch."""
    mask_truncated: bool = False
    """Leave rollouts cut by a limit on tokens or time out of the loss; they count in their group's mean."""
    importance_sampling_correction: bool = True
    """Weigh each token by how much likelier the trained policy finds it than what sampled it did, which corrects for a
    sampler of another engine, precision or age. TRL's `vllm_importance_sampling_correction`, mode `token_truncate`."""
    importance_sampling_clip_max: float = Field(default=3.0, gt=0)
    """Largest such weight; TRL's `vllm_importance_sampling_clip_max`."""
    max_sampler_drift: float | None = Field(default=0.2, gt=0)
    """Mean absolute difference between sampled and recomputed log-probabilities, in nats a token, at which the run
    stops; None: drift never stops a run. One engine in float32 stays below 0.0001, rounding to bfloat16 below 0.1;
    a sampler with other weights is far above."""
    ramp_share: float = Field(default=0.0, ge=0, lt=1)
    """Stage II: share of the tasks to draw from that are RAMP's, drawn by seed, so that it is not unlearned
    (`trainers.mixing`). 0 trains on questions alone."""
    curriculum: tuple[CurriculumLevel, ...] = ()
    """Levels by mask count, easy to hard; empty draws all tasks at any time."""
    temperature: float = Field(default=1.0, gt=0)
    """Of rollouts. What is recorded, trained and weighed is the likelihood at temperature 1, so that at another one the
    rollouts are those of a policy that is not quite the trained one."""
    row_batch_size: int = Field(default=16, gt=0)
    """Rows per forward pass of a process."""
    optimizer: OptimizerSettings = OptimizerSettings(
        learning_rate=1e-6, schedule="constant", warmup_ratio=0.0
    )
    lora_rank: int = Field(default=0, ge=0)
    bf16: bool = False
    """Compute under bfloat16 autocast. Full weights stay float32, because a step of a usual size is lost in bfloat16's
    rounding. The local engine samples from the model that is trained and rounds as it does; what batches of another
    shape round otherwise is logged as `sampling/sampling_logp_difference` and corrected by the importance weights.
    Weights under adapters stay as they were saved, for both. A CPU that is slower in bfloat16 computes all in float32
    instead."""
    gradient_checkpointing: bool = False
    save_steps: int = Field(default=20, gt=0)
    """Rounded up to whole rollout batches (`updates_per_rollout`): in the middle of one a run cannot go on exactly."""
    monitor: MonitorSettings | None = None
    """Asks an exam while it trains, where the stage is given one; None: never, and alarms only warn."""
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _divide_rows(self) -> DAPOSettings:
        """Refuse batch sizes that no number of processes makes whole, before a run has trained anything else."""
        rows, share = self.prompts_per_step * self.group_size, self.row_batch_size * self.updates_per_rollout
        if rows % share:
            raise ValueError(
                f"prompts_per_step x group_size is {rows} rows; expected a multiple of row_batch_size x "
                f"updates_per_rollout, which is {share}"
            )
        return self
