from __future__ import annotations

import pytest
from pydantic import ValidationError

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.recipe import Recipe


def test_fewer_masks_need_no_other_weights() -> None:
    assert RampSettings(max_masks=2).mask_count_weights[:2] == (1.0, 1.0)


@pytest.mark.parametrize("weights", [(1.0,), (0.0, 0.0), (1.0, -1.0)])
def test_weights_that_do_not_fit_the_masks_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="mask_count_weights needs a weight"):
        RampSettings(max_masks=2, mask_count_weights=weights)


def test_only_one_model_finds_spans() -> None:
    with pytest.raises(ValidationError, match="set one of them"):
        RampSettings.model_validate({"span_model": {"model": "openai:m"}, "gliner": {"model": "folder"}})
    assert RampSettings.model_validate({"gliner": {"model": "folder"}}).gliner is not None


def test_the_reference_model_is_the_one_that_is_trained_unless_another_is_named() -> None:
    plain = Recipe(base_model="mine")
    assert plain.masking is plain.ramp
    asked = Recipe(base_model="mine", ramp=RampSettings(policy="perplexity"))
    assert asked.masking == RampSettings(policy="perplexity", reference_model="mine")
    named = Recipe(ramp=RampSettings(policy="perplexity", reference_model="other"))
    assert named.masking is named.ramp
