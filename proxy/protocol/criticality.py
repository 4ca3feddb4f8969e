"""What a trusted caller says about a request besides its deadline: how important it is, and which attempt it is."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.config.policies import Criticality

_WORDS: Final[dict[bytes, "Criticality"]] = {
    b"critical": "critical",
    b"default": "default",
    b"sheddable": "sheddable",
    b"background": "background",
}
_MAX_DIGITS: Final = 3


def parse_criticality(value: bytes) -> "Criticality | None":
    """The value of X-Request-Criticality, None unless it is one of the four words as they are written here."""
    return _WORDS.get(value)


def parse_attempt(value: bytes) -> int:
    """The value of X-Request-Attempt, 0 unless it is 1 to 3 ASCII digits."""
    return int(value) if value.isdigit() and len(value) <= _MAX_DIGITS else 0
