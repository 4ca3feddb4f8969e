"""Makes docs/cache-conformance.md of the requirements and the tests' marks.

Run it by `python -m tests.support.conformance_page`. The marks are read from the source, so that nothing needs to be
imported or run.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tests.support.requirements import REQUIREMENTS, TITLES, Requirement

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/cache-conformance.md"
FOLDER = ROOT / "tests/conformance"

_INTRODUCTION = """\
# Conformance of the cache

Each requirement of the RFCs that concerns a shared HTTP/1.1 cache, in short, with the tests that cover it. The tests
speak HTTP through a running sidecar to an upstream that does exactly what the test says. `ought` is what a text says
in lower case. The page is made by `python -m tests.support.conformance_page`, and a test fails when it is out of date
or when a requirement has no test.
"""


class Place(NamedTuple):
    """Where a test is."""

    file: str
    name: str


def covering() -> dict[str, list[Place]]:
    """The tests by the id of the requirement that they are marked with."""
    found: defaultdict[str, list[Place]] = defaultdict(list)
    for file in sorted(FOLDER.rglob("test_*.py")):
        for function, name in _marked(ast.parse(file.read_text(encoding="utf-8"))):
            place = Place(str(file.relative_to(ROOT)), function)
            if place not in found[name]:
                found[name].append(place)
    return found


def _marked(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Each test of the module with each id in its decorators, those of single parameters included."""
    for function in module.body:
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and function.name.startswith("test_"):
            for decorator in function.decorator_list:
                for node in ast.walk(decorator):
                    yield from ((function.name, each) for each in _ids(node))


def _ids(node: ast.AST) -> list[str]:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement"):
        return []
    return [str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)]


def page(tests: Mapping[str, list[Place]]) -> str:
    """The text of docs/cache-conformance.md."""
    parts = [_INTRODUCTION]
    for rfc, requirements in groupby(REQUIREMENTS, key=lambda each: each.rfc):
        rows = "".join(_row(each, tests.get(each.id, [])) for each in requirements)
        heading = f"## RFC {rfc}: {TITLES[rfc]}"
        parts.append(f"{heading}\n\n| id | level | the cache is to | tests |\n|---|---|---|---|\n{rows}")
    return "\n".join(parts)


def _row(requirement: Requirement, tests: list[Place]) -> str:
    proof = ", ".join(f"[{_words(place.name)}](../{place.file})" for place in tests) or f"none: {requirement.why_not}"
    return f"| `{requirement.id}` | {requirement.level} | {requirement.text} | {proof} |\n"


def _words(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


if __name__ == "__main__":
    PAGE.write_text(page(covering()), encoding="utf-8")
