from __future__ import annotations

import pytest
from pydantic import ValidationError

from masksearch_agent.config.ramp import RampSettings


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
