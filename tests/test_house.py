"""The layers of the house, by reading the imports: bot -> training -> model, no cycles, torch only where it is used."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {"model": (), "training": ("model",), "bot": ("model", "training")}
HEAVY = {"torch", "transformers", "bitsandbytes", "peft", "sentencepiece", "tokenizers", "matplotlib", "numpy"}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for layer in LAYERS
    for path in sorted((ROOT / layer).rglob("*.py"))
}


def _imports(path: Path, top_level: bool) -> set[str]:
    """Names imported by a file; with `top_level` only those that importing the file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        elif not (top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            waiting += list(ast.iter_child_nodes(node))
    return found


def _own(names: set[str]) -> set[str]:
    return {name for name in names if name in FILES}


@pytest.mark.parametrize("module", FILES)
def test_imports_go_down_only(module: str) -> None:
    layer = module.partition(".")[0]
    for name in _imports(FILES[module], top_level=False):
        target = name.partition(".")[0]
        assert target not in LAYERS or target == layer or target in LAYERS[layer], f"{module} imports {name}"


def test_there_are_no_import_cycles() -> None:
    graph = {module: _own(_imports(path, top_level=True)) - {module} for module, path in FILES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for target in graph[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_command_line_imports_nothing_heavy_before_it_must() -> None:
    """`tertulia --help` answers at once; a subcommand fetches what it needs when it runs."""
    waiting, seen = ["bot.cli"], set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        names = _imports(FILES[module], top_level=True)
        heavy = {name.partition(".")[0] for name in names} & HEAVY
        assert not heavy, f"{module} imports {', '.join(sorted(heavy))} at its top level"
        packages = {".".join(name.split(".")[:n]) for name in _own(names) for n in range(1, name.count(".") + 2)}
        waiting += [name for name in packages if name in FILES]
    assert len(seen) > 3
