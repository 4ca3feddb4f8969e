"""Errors in the routes of a file: all of them, in words a user understands."""

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.routing.template import Template, TemplateError


@dataclass(frozen=True, slots=True)
class RouteProblem:
    """One error in one match of a route."""

    route: str
    match: str
    message: str


def check_routes(routes: Sequence[tuple[str, Sequence[str]]]) -> list[RouteProblem]:
    """Every grammar error and ambiguity in `routes`, pairs of a name and its matches."""
    problems = []
    earlier = _Earlier()
    for route, matches in routes:
        for match in matches:
            try:
                template = Template(match)
            except TemplateError as error:
                problems.append(RouteProblem(route, match, str(error)))
                continue
            problems += [
                RouteProblem(route, match, conflict)
                for other_route, other in earlier.near(template)
                if (conflict := _conflict(template, other, other_route))
            ]
            earlier.add(route, template)
    return problems


class _Earlier:
    """Templates seen so far, by how they begin: only those that begin alike, or openly, can overlap."""

    def __init__(self) -> None:
        self._all: list[tuple[str, Template]] = []
        self._open: list[tuple[str, Template]] = []
        self._by_start: dict[tuple[str | None, ...], list[tuple[str, Template]]] = {}

    def add(self, route: str, template: Template) -> None:
        """Remember a template."""
        self._all.append((route, template))
        start = _start(template)
        alike = self._open if start is None else self._by_start.setdefault(start, [])
        alike.append((route, template))

    def near(self, template: Template) -> list[tuple[str, Template]]:
        """Those that may overlap with `template`, in any order."""
        start = _start(template)
        return self._all if start is None else self._open + self._by_start.get(start, [])


def _start(template: Template) -> tuple[str | None, ...] | None:
    """The first two segments where both are written out."""
    start = template.segments[:2]
    return start if len(start) == 2 and None not in start else None


def _conflict(template: Template, other: Template, other_route: str) -> str:
    """Why the two cannot stand side by side, or ""."""
    if not template.overlaps(other):
        return ""
    covers, covered = template.covers(other), other.covers(template)
    if covers and covered:
        if template.method != other.method:
            return ""
        return f"the same requests match `{other.text}` of route `{other_route}`"
    if covers or covered or template.methods.isdisjoint(other.methods):
        return ""
    return (
        f"some requests also match `{other.text}` of route `{other_route}`, and neither is the more specific; "
        f"write one so that it is within the other, or add a route for what they share"
    )


def by_specificity(matches: Sequence[str]) -> list[str]:
    """Valid matches in the order in which they are tried on a path that several of them match."""
    return sorted(matches, key=lambda match: Template(match).specificity)
