"""Route templates: `METHOD /seg/{param}/*`, and how two of them relate."""

import re
from itertools import zip_longest
from typing import Final

from proxy.protocol.paths import normalised
from proxy.protocol.request_checks import METHODS

_PARAM: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_CANONICAL: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,=:@]|%[0-9A-F]{2})+")
ANY_METHOD: Final = "*"
REST: Final = "*"
"""Name under which the part of the path that a closing `/*` covers is found."""


class TemplateError(ValueError):
    """A match that is not of the grammar; the message tells the user why."""


class Template:
    """One parsed match. Segments that are None are parameters; a closing `/` is an empty last segment."""

    __slots__ = ("has_rest", "method", "params", "segments", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.method, path = _split(text)
        self.has_rest = path.endswith("/*")
        parts = (path[:-2] if self.has_rest else path).split("/")[1:]
        names = [_PARAM.fullmatch(part) for part in parts]
        self.segments = tuple(None if name else part for name, part in zip(names, parts, strict=True))
        self.params = tuple((name[1], index) for index, name in enumerate(names) if name)
        """Names of the parameters, with the segments they stand for."""
        _check_segments(self.segments, self.has_rest)
        if len({name for name, _ in self.params}) < len(self.params):
            raise TemplateError("a parameter name may be used only once")

    @property
    def methods(self) -> frozenset[str]:
        """The methods it takes when no other template is nearer."""
        if self.method == ANY_METHOD:
            return METHODS
        return frozenset({"GET", "HEAD"}) if self.method == "GET" else frozenset({self.method})

    @property
    def specificity(self) -> tuple[tuple[tuple[int, str], ...], bool, str]:
        """Sorts more specific templates before the less specific ones that overlap them."""
        path = tuple((1, "") if segment is None else (0, segment) for segment in self.segments)
        return (*path, (2, "")) if self.has_rest else path, self.method == ANY_METHOD, self.method

    def covers(self, other: "Template") -> bool:
        """Whether every path of `other` is one of its own too."""
        if len(self.segments) > len(other.segments) or (other.has_rest and not self.has_rest):
            return False
        if len(self.segments) < len(other.segments) and not self.has_rest:
            return False
        return all(
            theirs != "" if ours is None else ours == theirs
            for ours, theirs in zip(self.segments, other.segments, strict=False)
        )

    def overlaps(self, other: "Template") -> bool:
        """Whether some path is both its own and one of `other`."""
        for ours, theirs in zip_longest(self.segments, other.segments, fillvalue=REST):
            if ours is REST or theirs is REST:
                return self.has_rest if ours is REST else other.has_rest
            if ours != theirs and (ours == "" or theirs == "" or (ours is not None and theirs is not None)):
                return False
        return True


def _split(text: str) -> tuple[str, str]:
    method, space, path = text.partition(" ")
    if not space or not path.startswith("/"):
        raise TemplateError("write a method or `*`, one space and a path that begins with `/`, as in `GET /users/{id}`")
    if method != ANY_METHOD and method not in METHODS:
        raise TemplateError(f"the method must be `*` or one of {', '.join(sorted(METHODS))}, in capitals")
    return method, path


def _check_segments(segments: tuple[str | None, ...], has_rest: bool) -> None:
    for index, segment in enumerate(segments):
        if segment is None or (segment == "" and index == len(segments) - 1 and not has_rest):
            continue
        _check_static(segment)


def _check_static(segment: str) -> None:
    if segment == "":
        raise TemplateError("`//` is not allowed: a path must be written in its shortest form")
    if "{" in segment or "}" in segment:
        raise TemplateError("a parameter is a whole segment, `/{name}/`, its name letters, digits and `_`")
    if "*" in segment:
        raise TemplateError("`*` may only close the path, as in `/files/*`")
    if segment in (".", ".."):
        raise TemplateError("`.` and `..` are not allowed: a path must be written in its shortest form")
    if not _CANONICAL.fullmatch(segment) or normalised(f"/{segment}") != f"/{segment}":
        raise TemplateError("a segment may hold letters, digits and -._~!$&'()+,=:@; write others as %XX, in capitals")
