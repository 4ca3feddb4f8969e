"""Path rewriting: the upstream's path made from the parameters of the match."""

from collections.abc import Mapping, Sequence

from proxy.errors import AmbiguousPath
from proxy.protocol.paths import has_dot_segment, is_plain
from proxy.routing.template import REST, Template, TemplateError


class Rewrite:
    """A compiled `rewrite:`, such as `/v2/properties/{id}`; a closing `/*` inserts what that of the match covered."""

    __slots__ = ("_pattern",)

    def __init__(self, template: str) -> None:
        """`template` has passed `check_rewrite`."""
        self._pattern = f"{template[:-2]}{{{REST}}}" if template.endswith("/*") else template

    def apply(self, params: Mapping[str, str], query: str | None) -> str:
        """The new request target; the query stays.

        Raises AmbiguousPath when a parameter could lead out of the place it is put into.
        """
        path = self._pattern.format_map(params) or "/"
        if not is_plain(path) and has_dot_segment(path):
            raise AmbiguousPath("The path holds dot segments.")
        return path if query is None else f"{path}?{query}"


def check_rewrite(template: str, matches: Sequence[str]) -> str:
    """What is wrong with a rewrite for these matches, or "". Matches that are wrong themselves are left out."""
    try:
        needed = _names(Template(f"GET {template}"))
    except TemplateError as error:
        return str(error)
    for match in matches:
        try:
            missing = needed - _names(Template(match))
        except TemplateError:
            continue
        if missing:
            words = " and ".join("a closing `/*`" if name == REST else f"`{{{name}}}`" for name in sorted(missing))
            return f"uses {words}, which `{match}` does not have"
    return ""


def _names(template: Template) -> set[str]:
    return {name for name, _ in template.params} | ({REST} if template.has_rest else set())
