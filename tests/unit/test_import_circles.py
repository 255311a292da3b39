"""No two modules of the package need each other, however late they import."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import masksearch_agent

PACKAGE = "masksearch_agent"
ROOT = Path(masksearch_agent.__file__).parent


def module_name(path: Path) -> str:
    return ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def needed_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what can run: everything but what stands under `if TYPE_CHECKING`."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in node.orelse:
            yield from needed_nodes(child)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from needed_nodes(child)


def needed_modules(source: str, modules: set[str]) -> set[str]:
    """Return the modules that a module of the package imports, at once or lazily."""
    found: set[str] = set()
    for node in needed_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import; name the module in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if names <= modules else names | {str(node.module)}
    # The package's own `__init__` imports by name on first use.
    return {name for name in found & modules if name != PACKAGE}


def find_circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of a circle in order; none where there is no circle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as failure:
        return list(failure.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    paths = {module_name(path): path for path in ROOT.rglob("*.py")}
    sources = {name: path.read_text(encoding="utf-8") for name, path in paths.items() if name != PACKAGE}
    imports = {name: needed_modules(source, set(paths)) for name, source in sources.items()}
    assert sum(map(len, imports.values())) > 500, "the imports were not found"
    assert find_circle(imports) == []


def test_lazy_imports_close_a_circle_and_type_only_ones_do_not() -> None:
    modules = {"p.a", "p.b", "p.c"}
    lazy = needed_modules("def f():\n    from p.b import thing", modules)
    typed = needed_modules(
        "if TYPE_CHECKING:\n    from p import a\nelse:\n    from p import c\nimport p.c", modules
    )
    assert (lazy, typed) == ({"p.b"}, {"p.c"})
    assert find_circle({"p.a": lazy, "p.b": {"p.c"}, "p.c": typed - {"p.c"}}) == []
    assert set(find_circle({"p.a": lazy, "p.b": {"p.a"}})) == {"p.a", "p.b"}
