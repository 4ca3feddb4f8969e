"""Method and path to route. Compiled once; the cost of a match does not grow with the number of routes."""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from proxy.config.model import RouteConfig
from proxy.errors import AmbiguousPath, MethodNotAllowed, NotFound
from proxy.protocol.paths import is_plain, readings
from proxy.routing.check import check_routes
from proxy.routing.template import ANY_METHOD, REST, Template

T = TypeVar("T")


class Match(Generic[T]):
    """The route that takes a request."""

    __slots__ = ("params", "route", "target")

    def __init__(self, route: RouteConfig, target: T, params: dict[str, str]) -> None:
        self.route = route
        self.target = target
        self.params = params
        """Path parameters as they came, percent-encoded; what a closing `/*` covers is under `*`, with its `/`."""


class _Leaf(Generic[T]):
    """What one template does with a path of its own."""

    __slots__ = ("_fixed", "_params", "_rest_at", "route", "target")

    def __init__(self, template: Template, route: RouteConfig, target: T) -> None:
        self.route = route
        self.target = target
        self._params = template.params
        self._rest_at = len(template.segments) if template.has_rest else None
        self._fixed = Match(route, target, {}) if not self._params and not template.has_rest else None

    def match(self, segments: list[str]) -> Match[T]:
        if self._fixed is not None:
            return self._fixed
        params = {name: segments[index] for name, index in self._params}
        if self._rest_at is not None:
            rest = segments[self._rest_at :]
            params[REST] = "/" + "/".join(rest) if rest else ""
        return Match(self.route, self.target, params)


class _Node(Generic[T]):
    """A place in the tree of templates: what may follow it, and who takes a path that ends or goes on here."""

    __slots__ = ("children", "ends", "param", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.param: _Node[T] | None = None
        self.ends: dict[str, _Leaf[T]] = {}
        """By method, for a path that ends here."""
        self.rest: dict[str, _Leaf[T]] = {}
        """By method, for any path that comes this far."""

    def step(self, segment: str | None) -> "_Node[T]":
        """The node after `segment`, made when missing."""
        if segment is not None:
            return self.children.setdefault(segment, _Node[T]())
        if self.param is None:
            self.param = _Node[T]()
        return self.param

    def find(self, segments: list[str], depth: int, method: str) -> "_Leaf[T] | None":
        """The most specific leaf below that takes the path and the method.

        A node has one way in, so no path makes a search visit a node twice; it goes two ways only where one template
        writes a segment out and another has a parameter.
        """
        found = None
        if depth == len(segments):
            found = self.ends.get(method)
        else:
            segment = segments[depth]
            child = self.children.get(segment)
            if child is not None:
                found = child.find(segments, depth + 1, method)
            if found is None and self.param is not None and segment:
                found = self.param.find(segments, depth + 1, method)
        return self.rest.get(method) if found is None else found

    def methods(self, segments: list[str], depth: int) -> Iterator[str]:
        """All methods that some leaf below takes for the path."""
        yield from self.rest
        if depth == len(segments):
            yield from self.ends
            return
        following = [self.children.get(segments[depth]), self.param if segments[depth] else None]
        for node in following:
            if node is not None:
                yield from node.methods(segments, depth + 1)


class Router(Generic[T]):
    """Finds the route of a request among templates that `check_routes` has passed.

    The most specific path wins, then the method written out, then GET for HEAD, then `*`. Case is significant in paths
    (RFC 3986 section 6.2.2.1).
    """

    def __init__(self, entries: Sequence[tuple[RouteConfig, T]]) -> None:
        """Raises ValueError when the routes have errors."""
        problems = check_routes([(route.name, route.match) for route, _ in entries])
        if problems:
            raise ValueError(f"{problems[0].match}: {problems[0].message}")
        self._root = _Node[T]()
        leaves = [(Template(text), route, target) for route, target in entries for text in route.match]
        for template, route, target in sorted(leaves, key=lambda leaf: _method_rank(leaf[0])):
            self._add(template, _Leaf(template, route, target))

    def _add(self, template: Template, leaf: _Leaf[T]) -> None:
        node = self._root
        for segment in template.segments:
            node = node.step(segment)
        leaves = node.rest if template.has_rest else node.ends
        for method in template.methods:
            leaves.setdefault(method, leaf)

    def match(self, method: str, path: str) -> Match[T]:
        """The match for an origin-form path, without its query.

        Raises NotFound, MethodNotAllowed, AmbiguousPath for a path that servers may read as different routes, and
        BadRequest for one with control bytes or malformed escapes.
        """
        if not is_plain(path) and len(set(self.outcomes(method, path).values())) > 1:
            raise AmbiguousPath("The path can be read in more than one way.")
        segments = path.split("/")
        del segments[0]
        leaf = self._find(segments, method)
        if leaf is None:
            raise self._refusal(segments)
        return leaf.match(segments)

    def _find(self, segments: list[str], method: str) -> _Leaf[T] | None:
        """The straight way down first: it is the most specific one, and nearly always ends at the right leaf."""
        node = self._root
        for segment in segments:
            following = node.children.get(segment) or (node.param if segment else None)
            if following is None:
                break
            node = following
        else:
            leaf = node.ends.get(method)
            if leaf is not None:
                return leaf
        return self._root.find(segments, 0, method)

    def outcomes(self, method: str, path: str) -> dict[str, str]:
        """Every reading of `path`, itself first, with the name of the route it leads to, "" for none.

        Raises BadRequest as `match` does.
        """
        found = {}
        for reading in readings(path):
            leaf = self._find(reading.split("/")[1:], method)
            found[reading] = "" if leaf is None else leaf.route.name
        return found

    def _refusal(self, segments: list[str]) -> NotFound | MethodNotAllowed:
        methods = sorted(set(self._root.methods(segments, 0)))
        return MethodNotAllowed(allow=", ".join(methods)) if methods else NotFound()


def _method_rank(template: Template) -> int:
    """Who comes first among templates of the same path: GET after HEAD, for it takes HEAD too; `*` last."""
    return {"GET": 1, ANY_METHOD: 2}.get(template.method, 0)
