"""Rules of the house that a reader can rely on, read from the source itself."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOUSE = ("lib", "studies", "commands", "benchmarks")
MOST_PARAMETERS = 8


def functions():
    """Every function of the product, with where it stands."""
    for path in (path for name in HOUSE for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node.args


def parameters(arguments):
    """Their names; `self` is none, nor is `**_`, which takes what is not looked at."""
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += filter(None, (arguments.vararg, arguments.kwarg))
    return [one.arg for one in every if one.arg not in ("self", "cls", "_")]


def test_no_function_has_more_than_eight_parameters():
    """What is more is one value: a dataclass, such as SearchSpec."""
    found = {where: len(parameters(arguments)) for where, arguments in functions()}
    assert found and {where: n for where, n in found.items() if n > MOST_PARAMETERS} == {}


def test_no_step_end_has_a_default():
    """It is the task's own, everywhere."""
    for where, arguments in functions():
        named = [*arguments.posonlyargs, *arguments.args]
        given = named[len(named) - len(arguments.defaults) :]
        pairs = [*zip(given, arguments.defaults, strict=True)]
        pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        for one, default in pairs:
            assert default is None or one.arg != "step_end", where
