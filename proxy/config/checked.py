"""What the checks look at: the sound parts of a file, with their places in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.config.document import Document, Loc
from proxy.config.forms import PoliciesForm, RouteForm

Finding = tuple[Loc, str]
"""The path of what is wrong, and a message."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A form, the routes' places in the file, and the file itself."""

    form: PoliciesForm
    places: tuple[int, ...]
    """Index in the file of each of the form's routes: those with mistakes of their own are left out."""
    unsound: frozenset[Loc]
    """What else was left out."""
    document: Document
    folder: Path
    """Where relative file names start."""

    def routes(self) -> Iterator[tuple[Loc, RouteForm]]:
        """The sound routes with their paths."""
        for index, route in zip(self.places, self.form.routes, strict=True):
            yield ("routes", index), route
