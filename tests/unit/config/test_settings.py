from __future__ import annotations

import pytest

from masksearch_agent.config.recipe import load_recipe
from masksearch_agent.config.trainers import DAPOSettings, OptimizerSettings
from masksearch_agent.errors import ConfigError


def test_an_optimizer_that_is_told_in_part_has_the_other_settings_of_its_stage() -> None:
    recipe = load_recipe(
        overrides=["ramp_dapo.optimizer.max_gradient_norm=0.5", "ramp_sft.optimizer.schedule=cosine"]
    )
    assert recipe.ramp_dapo is not None
    assert recipe.ramp_dapo.optimizer == OptimizerSettings(
        learning_rate=1e-6, schedule="constant", warmup_ratio=0.0, max_gradient_norm=0.5
    )
    assert recipe.ramp_sft.optimizer == OptimizerSettings(
        learning_rate=2e-5, schedule="cosine", warmup_ratio=0.03
    )


def test_an_optimizer_that_is_made_in_python_is_taken_as_it_is() -> None:
    made = OptimizerSettings(max_gradient_norm=0.5)
    assert DAPOSettings(optimizer=made).optimizer == made


def test_calls_of_a_web_search_keep_its_limits_where_one_is_changed() -> None:
    recipe = load_recipe(overrides=["retrieval.web.calls.requests_per_second=1"])
    calls = recipe.retrieval.web.calls
    assert (calls.requests_per_second, calls.timeout_s, calls.patience_s) == (1.0, 20.0, 120.0)


@pytest.mark.parametrize(
    "setting",
    [
        *(
            "ramp_sft.optimizer.learning_rate=.inf",
            "ramp_dapo.temperature=.inf",
            "rewards.format_weight=.nan",
        ),
        *("ramp_sft.lora_rank=-1", "ramp_dapo.lora_rank=-1"),
        *("ramp_sft.seed=-1", "ramp_dapo.seed=-1", "qa_sft.seed=4294967296"),
    ],
)
def test_a_number_that_nothing_could_be_trained_with_is_refused_by_its_name(setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.partition("=")[0]):
        load_recipe(overrides=[setting])
