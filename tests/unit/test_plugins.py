"""Plugins are found by name wherever they come from, and imported only when they are asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from masksearch_agent.errors import ConfigError
from masksearch_agent.lab.muon import make_muon_with_adamw
from masksearch_agent.plugins import OPTIMIZERS, Registry


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Return the registry of a folder with two plugins and a module that is none."""
    folder = tmp_path / "paint_shop"
    folder.mkdir()
    for name, text in {
        "__init__": "",
        "red": "PAINT = 'a red one'",
        "blue": "raise RuntimeError('imported')",
        "_mix": "",
    }.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Registry("colour", "masksearch_agent.no_such_group", "paint_shop", "PAINT")
    for name in [name for name in sys.modules if name.split(".")[0] == "paint_shop"]:
        del sys.modules[name]


def test_a_module_of_the_folder_is_a_plugin_of_its_name(colours: Registry) -> None:
    assert colours.names() == ("blue", "red")
    assert colours.get("red") == "a red one"
    assert "paint_shop.blue" not in sys.modules


def test_what_an_application_registers_takes_the_place_of_its_namesake(colours: Registry) -> None:
    colours.register("red", "another red")
    colours.register("green", "a green one")
    assert colours.names() == ("blue", "green", "red")
    assert (colours.get("red"), colours.get("green")) == ("another red", "a green one")


def test_an_unknown_name_is_told_which_there_are(colours: Registry) -> None:
    with pytest.raises(ConfigError, match="no colour called 'pink'; expected one of blue, red"):
        colours.get("pink")


def test_an_installed_package_brings_plugins_as_entry_points() -> None:
    assert OPTIMIZERS.get("muon") is make_muon_with_adamw
