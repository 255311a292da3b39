from __future__ import annotations

import shlex
import subprocess
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


def test_make_real_text_has_what_every_row_needs() -> None:
    root = Path(__file__).parents[3]
    told = subprocess.run(["make", "-n", "real-text"], cwd=root, capture_output=True, text=True, check=True)
    [line] = [line for line in told.stdout.splitlines() if "masksearch real-text" in line]
    words = shlex.split(line)
    options = dict(zip(words[2::2], words[3::2], strict=True))
    recipe = load_recipe(root / options["--recipe"], [options["--set"]])
    assert "--rows" not in options
    assert recipe.qa_dapo is not None
