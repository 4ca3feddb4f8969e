"""Reads policies.yaml: file -> document -> form -> checks -> Config, with every mistake reported at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from proxy.config.checked import Checked
from proxy.config.checks import find_contradictions, find_doubts
from proxy.config.document import Document, Loc, read_document
from proxy.config.forms import PoliciesForm
from proxy.config.messages import MISSING, describe, place
from proxy.config.model import Config
from proxy.config.problems import ConfigError, Mark, Problem
from proxy.config.resolve import Origins, resolve
from proxy.config.scalar import quoted

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_MAX_FILE = 1 << 20
_MAX_PROBLEMS = 100
_Found = tuple[Mark, str]


class RouteProblem(Protocol):
    """A mistake in one match of a route."""

    @property
    def route(self) -> str:
        """The route's name."""
        ...

    @property
    def match(self) -> str:
        """The match, as written."""
        ...

    @property
    def message(self) -> str:
        """What is wrong with it."""
        ...


class RouteRules(Protocol):
    """What the router, which stands above this package, has to say about routes."""

    def check_routes(self, routes: Sequence[tuple[str, Sequence[str]]]) -> Sequence[RouteProblem]:
        """Mistakes in, and contradictions between, the matches of routes, given as name and matches."""
        ...

    def check_rewrite(self, template: str, matches: Sequence[str]) -> str:
        """What is wrong with a rewrite for these matches, or ""."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used."""

    config: Config
    warnings: list[Problem]
    origins: Origins


def load_policies(path: Path, env: Mapping[str, str], rules: RouteRules) -> Loaded:
    """Read the file at `path`, with `env` for its `${VAR}`.

    Raises ConfigError with every problem found; also for a file that cannot be read.
    """
    document = read_document(_read(path), env)
    found = list(document.problems)
    checked = _validate(document, path.parent.absolute(), found)
    if checked is None:
        raise _failure(path, found)
    found += [(document.value_mark(where), message) for where, message in find_contradictions(checked)]
    found += _check_matches(checked, rules)
    found += _check_rewrites(checked, rules)
    if found:
        raise _failure(path, found)
    config, origins = resolve(checked.form, document, checked.folder)
    doubts = [(document.value_mark(where), f"warning: {message}") for where, message in find_doubts(checked)]
    return Loaded(config, _problems(path, doubts), origins)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        advice = "give the path of your policies file, or run from the folder that holds policies.yaml"
        raise ConfigError([Problem(str(path), 0, 0, f"there is no such file: {advice}")]) from None
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, 0, f"cannot be read: {error.strerror}")]) from None
    if len(content) > _MAX_FILE:
        raise ConfigError([Problem(str(path), 0, 0, "is larger than 1MiB, the limit for a policies file")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        raise ConfigError([Problem(str(path), line, column, "is not UTF-8: save the file as UTF-8 text")]) from None


# --- the form -------------------------------------------------------------------------------------------------------


def _validate(document: Document, folder: Path, found: list[_Found]) -> Checked | None:
    """The form of the sound parts of the file; what is wrong with the others is added to `found`.

    What has a mistake is left out and the rest validated again, until it is sound: so one mistake hides no other.
    None when nothing useful is left.
    """
    unsound = set[Loc]()
    while True:
        data, places = _without(document.data, unsound)
        try:
            form = PoliciesForm.model_validate(data, context={"file": True})
        except ValidationError as failure:
            errors = [_in_file(error, places) for error in failure.errors(include_url=False)]
        else:
            return Checked(form, places, frozenset(unsound), document, folder) if document.complete else None
        if not document.complete:
            # What seems to be missing may stand in the part that could not be read.
            found += _described(
                [error for error in errors if error["type"] != "missing" and not _is_of_whole(error)], document
            )
            return None
        found += _described(_without_consequences(errors, unsound, document), document)
        more = {_unsound_part(error, document) for error in errors}
        if more <= unsound:
            return None
        unsound |= more


def _in_file(error: "ErrorDetails", places: tuple[int, ...]) -> "ErrorDetails":
    """`error` with the route's index in the file instead of that among the sound routes."""
    match error["loc"]:
        case ("routes", int(index), *rest):
            error["loc"] = ("routes", places[index], *rest)
    return error


def _without_consequences(errors: "list[ErrorDetails]", unsound: set[Loc], document: Document) -> "list[ErrorDetails]":
    """`errors` but for those of a whole that is only wrong because a part of it is."""
    parts = unsound.union(document.existing(error["loc"]) for error in errors)
    wholes = {part[:length] for part in parts for length in range(len(part))}
    return [error for error in errors if not (_is_of_whole(error) and document.existing(error["loc"]) in wholes)]


def _is_of_whole(error: "ErrorDetails") -> bool:
    """Whether `error` is about what a mapping or list holds, taken together."""
    return error["type"] == "too_short" or (error["type"] == "value_error" and isinstance(error["input"], dict))


def _described(errors: "list[ErrorDetails]", document: Document) -> list[_Found]:
    """The first errors in the order of the file: describing thousands would take long."""
    marked = sorted(((place(error, document), error) for error in errors), key=lambda pair: pair[0])
    return [(mark, describe(error, document)) for mark, error in marked[:_MAX_PROBLEMS]]


def _unsound_part(error: "ErrorDetails", document: Document) -> Loc:
    """What to leave out: an unknown key alone, else the route, the upstream or the setting with the mistake."""
    return document.existing(error["loc"] if error["type"] == "extra_forbidden" else error["loc"][:2])


def _without(data: dict[str, object], unsound: set[Loc]) -> tuple[dict[str, object], tuple[int, ...]]:
    """`data` without the parts at the paths in `unsound`, and the indexes of the routes that are left."""

    def prune(node: object, path: Loc) -> object:
        if isinstance(node, dict):
            return {key: prune(child, (*path, key)) for key, child in node.items() if (*path, key) not in unsound}
        if isinstance(node, tuple):
            pairs = enumerate(node)
            return tuple(prune(child, (*path, index)) for index, child in pairs if (*path, index) not in unsound)
        return node

    routes = data.get("routes")
    count = len(routes) if isinstance(routes, tuple) else 0
    places = tuple(index for index in range(count) if ("routes", index) not in unsound)
    return {key: prune(child, (key,)) for key, child in data.items() if (key,) not in unsound}, places


# --- matches and rewrites -------------------------------------------------------------------------------------------


def _check_matches(checked: Checked, rules: RouteRules) -> Iterator[_Found]:
    paths = {route.name: path for path, route in reversed(list(checked.routes()))}
    for problem in rules.check_routes([(route.name, route.match) for _, route in checked.routes()]):
        where: Loc = (*paths[problem.route], "match")
        written = checked.document.get(where)
        if isinstance(written, tuple) and problem.match in written:
            where = (*where, written.index(problem.match))
        message = f"match in route {quoted(problem.route)}: {problem.message}"
        yield checked.document.value_mark(where), message


def _check_rewrites(checked: Checked, rules: RouteRules) -> Iterator[_Found]:
    for path, route in checked.routes():
        own = "rewrite" in route.model_fields_set
        template = route.rewrite if own else checked.form.defaults.rewrite
        if template and (problem := rules.check_rewrite(template, route.match)):
            where = (*path, "rewrite") if own else path
            yield checked.document.value_mark(where), f"rewrite in route {quoted(route.name)}: {problem}"


# --- problems -------------------------------------------------------------------------------------------------------


def _failure(path: Path, found: list[_Found]) -> ConfigError:
    problems = _problems(path, found)
    if len(problems) > _MAX_PROBLEMS:
        rest = len(problems) - _MAX_PROBLEMS
        problems[_MAX_PROBLEMS:] = [Problem(str(path), 0, 0, f"{rest} more problems are not shown")]
    return ConfigError(problems)


def _problems(path: Path, found: list[_Found]) -> list[Problem]:
    """In the order of the file, and one for each place: the first says why, others only follow from it.

    What is missing has no place of its own; all of that is said where it should be.
    """
    told: dict[Mark, list[str]] = {}
    for mark, message in found:
        messages = told.setdefault(mark, [])
        also_missing = MISSING in message and all(MISSING in other for other in messages)
        if not messages or (also_missing and message not in messages):
            messages.append(message)
    return [Problem(str(path), mark.line, mark.column, message) for mark in sorted(told) for message in told[mark]]
