"""YAML text -> plain data and the place of every key and value.

One pass over libyaml's events with an explicit stack, so that no file can cause recursion, expansion or a second
parse. YAML's surprises are mistakes here: what two YAML versions read differently has to be written plainly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import yaml

from proxy.config.environment import expand
from proxy.config.plain_scalars import EMPTY, resolve, surprise
from proxy.config.problems import Mark
from proxy.config.scalar import quoted

Loc = tuple[str | int, ...]
"""The way to a value: the keys and indexes from the top of the file."""

_MAX_DEPTH = 20
_MAX_VALUES = 10_000


@dataclass(slots=True)
class Document:
    """Mappings are dicts, lists are tuples; an empty top-level section is left out."""

    data: dict[str, object] = field(default_factory=dict)
    keys: dict[Loc, Mark] = field(default_factory=dict)
    values: dict[Loc, Mark] = field(default_factory=dict)
    sources: dict[Loc, str] = field(default_factory=dict)
    """Text of the unquoted scalars that were read as a number or as true or false."""
    problems: list[tuple[Mark, str]] = field(default_factory=list)
    complete: bool = False
    """Whether the text could be read to its end."""

    def existing(self, path: Loc) -> Loc:
        """`path` without the parts that are not written in the file: a short form leaves some of the long one out."""
        found: Loc = ()
        for part in path:
            if (*found, part) in self.values:
                found = (*found, part)
        return found

    def value_mark(self, path: Loc) -> Mark:
        """Where the value at `path`, or the nearest one around it, is written."""
        return self.values.get(self.existing(path), Mark(1, 1))

    def key_mark(self, path: Loc) -> Mark:
        """Where the key at `path` is written; without one, the value."""
        return self.keys.get(path) or self.value_mark(path)

    def get(self, path: Loc) -> object:
        """The value written at `path`, or None."""
        node: object = self.data
        for part in path:
            node = _child(node, part)
        return node


def read_document(text: str, env: Mapping[str, str]) -> Document:
    """Parse `text`, with `env` for its `${VAR}`. Never raises: what is wrong is in `problems`."""
    builder = _Builder(env)
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.feed(event)
        builder.document.complete = True
    except _Abort:
        pass
    except yaml.MarkedYAMLError as error:
        builder.syntax_error(error, text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        builder.document.problems.append((Mark(line, 1), "not valid YAML: a character that YAML does not allow"))
    document = builder.document
    document.data = {key: _frozen(value) for key, value in document.data.items()}
    return document


def _mark(place: Any) -> Mark:
    """Our mark for libyaml's, which counts from 0."""
    return Mark(place.line + 1, place.column + 1) if place else Mark(1, 1)


def _is_free_form(path: Loc) -> bool:
    """Whether the value at `path` is part of an answer that the user makes up: there, null is a value like others."""
    return any(pair == ("static", "body") for pair in pairwise(path))


def _child(node: object, part: str | int) -> object:
    match node:
        case dict():
            return node.get(part)
        case tuple() if isinstance(part, int) and part < len(node):
            return node[part]
    return None


def _frozen(node: object) -> object:
    """`node` with tuples for lists."""
    if isinstance(node, dict):
        return {key: _frozen(value) for key, value in node.items()}
    return tuple(map(_frozen, node)) if isinstance(node, list) else node


class _Abort(Exception):
    """Nothing after this point can be read with any sense."""


@dataclass(slots=True)
class _Frame:
    """An open mapping or list."""

    path: Loc
    items: "dict[str, object] | list[object]"
    key: str | None = None
    """Of a mapping: set while its value is awaited."""


class _Builder:
    """Turns events into a Document."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.document = Document()
        self._env = env
        self._stack: list[_Frame] = []
        self._documents = 0
        self._values = 0

    def feed(self, event: yaml.Event) -> None:
        """Take one event."""
        mark = _mark(event.start_mark)
        match event:
            case yaml.DocumentStartEvent():
                self._start_document(mark)
            case yaml.AliasEvent():
                self._problem(mark, f"the alias *{event.anchor} is not supported: write the value out")
                self._scalar(mark, None)
            case yaml.ScalarEvent():
                self._check_node(event, mark)
                if self._awaits_key():
                    self._start_key(mark, event.value, plain=not event.style)
                else:
                    self._scalar(mark, self._read_scalar(mark, event))
            case yaml.CollectionStartEvent():
                self._check_node(event, mark)
                self._open(mark, {} if isinstance(event, yaml.MappingStartEvent) else [])
            case yaml.CollectionEndEvent():
                self._close()

    def syntax_error(self, error: yaml.MarkedYAMLError, text: str) -> None:
        """Report where and why libyaml gave up."""
        mark = _mark(error.problem_mark or error.context_mark)
        line = text.splitlines()[mark.line - 1 : mark.line]
        hint = "; inside [ ] and { }, quote text that holds a brace" if line and "{" in line[0] else ""
        self._problem(mark, f"not valid YAML: {error.problem}{hint}")

    # --- structure

    def _start_document(self, mark: Mark) -> None:
        self._documents += 1
        if self._documents > 1:
            self._problem(mark, "a second YAML document: one file holds one configuration")
            raise _Abort

    def _check_node(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, mark: Mark) -> None:
        self._values += 1
        if self._values > _MAX_VALUES:
            self._problem(mark, f"more than {_MAX_VALUES} values in one file")
            raise _Abort
        if event.anchor is not None:
            self._problem(mark, f"the anchor &{event.anchor} is not supported: write the value out where it is needed")
        if event.tag is not None:
            self._problem(mark, "YAML tags (!name) are not supported: write the plain value")

    def _awaits_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].items, dict) and self._stack[-1].key is None

    def _start_key(self, mark: Mark, key: str, *, plain: bool) -> None:
        frame = self._stack[-1]
        path = (*frame.path, key)
        if key == "<<" and plain:
            self._problem(mark, "merge keys (<<) are not supported: use `defaults`, or write the keys out")
        elif path in self.document.keys:
            first = self.document.keys[path].line
            self._problem(mark, f"the key {quoted(key)} is written twice: the first is in line {first}")
        self.document.keys.setdefault(path, mark)
        frame.key = key

    def _place(self, mark: Mark, value: object) -> Loc:
        """Put `value` where it belongs and return its path."""
        if not self._stack:
            self.document.values[()] = mark
            if isinstance(value, dict):
                self.document.data = value
            else:
                self._problem(mark, "a policies file is a mapping with `upstreams` and `routes`")
            return ()
        frame = self._stack[-1]
        if isinstance(frame.items, dict):
            path = (*frame.path, frame.key or "")
            frame.items.setdefault(frame.key or "", value)
            frame.key = None
        else:
            path = (*frame.path, len(frame.items))
            frame.items.append(value)
        self.document.values.setdefault(path, mark)
        return path

    def _open(self, mark: Mark, items: dict[str, object] | list[object]) -> None:
        if self._awaits_key():
            self._problem(mark, "a key must be plain text")
            raise _Abort
        if len(self._stack) >= _MAX_DEPTH:
            self._problem(mark, f"nested deeper than {_MAX_DEPTH} levels")
            raise _Abort
        self._stack.append(_Frame(self._place(mark, items), items))

    def _close(self) -> None:
        self._stack.pop()

    # --- scalars

    def _scalar(self, mark: Mark, value: object) -> None:
        if self._awaits_key():
            self._start_key(mark, "", plain=False)
        elif value is not EMPTY:
            self._place(mark, value)
        elif len(self._stack) == 1 and self._stack[0].key is not None:
            self._stack[0].key = None
        elif self._stack and _is_free_form(self._next_path()):
            self._place(mark, None)
        else:
            path = self._place(mark, None)
            where = self.document.keys.get(path, mark)
            self._problem(where, "no value: write one, or remove the key")

    def _read_scalar(self, mark: Mark, event: yaml.ScalarEvent) -> object:
        text = event.value
        try:
            expanded = expand(text, self._env)
        except ValueError as error:
            self._problem(mark, str(error))
            return None
        if event.style or expanded is not text:
            return expanded
        if reason := surprise(text):
            self._problem(mark, reason)
            return None
        value = resolve(text)
        if not isinstance(value, str) and self._stack:
            self.document.sources[self._next_path()] = text
        return value

    def _next_path(self) -> Loc:
        frame = self._stack[-1]
        return (*frame.path, len(frame.items) if isinstance(frame.items, list) else frame.key or "")

    def _problem(self, mark: Mark, message: str) -> None:
        self.document.problems.append((mark, message))
