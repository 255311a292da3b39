from __future__ import annotations

from pathlib import Path

import pytest

from masksearch_agent.config.recipe import load_recipe
from masksearch_agent.lab.recipe import LabRecipe
from masksearch_agent.lab.shipped import shipped_recipe
from masksearch_agent.lab.world import write_closed_world


@pytest.mark.parametrize("name", ["quickstart", "evolve", "ablate"])
def test_the_closed_world_of_a_shipped_recipe_has_names_and_questions_enough(
    name: str, tmp_path: Path
) -> None:
    recipe = load_recipe(shipped_recipe(name), schema=LabRecipe)
    counts = write_closed_world(recipe.world, recipe.seed, tmp_path)["questions"]
    assert counts["qa_train"] == sum(wanted.count for wanted in recipe.world.train_questions)
    for wanted in recipe.world.test_questions:
        assert 0 < counts[f"{wanted.name}_test"] <= wanted.count
