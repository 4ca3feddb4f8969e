"""What an unquoted YAML scalar means, and which ones mean different things to different readers."""

import re

from proxy.config.scalar import quoted

EMPTY = object()
"""A key without a value, or null."""

_WORDS: dict[str, object] = {"": EMPTY, "~": EMPTY, "null": EMPTY}
_WORDS |= dict.fromkeys(("true", "yes", "on"), True)
_WORDS |= dict.fromkeys(("false", "no", "off"), False)
_WORDS |= {form: value for word, value in tuple(_WORDS.items()) for form in (word.title(), word.upper())}

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,18}", re.ASCII)

_SURPRISES = (
    (r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?", "is a number in base 60 to YAML: write 90s for a duration"),
    (r"[-+]?0[0-9_]+", "is an octal number to YAML: write it without the leading 0"),
    (r"[-+]?0[xob][0-9A-Fa-f_]+", "is a hexadecimal, octal or binary number: write it in decimal"),
    (r"[-+]?[0-9][0-9_]*_[0-9_.]*", "is a number to YAML: write the digits without underscores"),
    (r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?", "is a date to YAML: durations look like 90s or 1d"),
    (r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "is not a finite number: write `off` where no limit is meant"),
    (r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "is an unusual number: write it as in 12 or 0.5"),
)
_SURPRISE_PATTERNS = tuple((re.compile(pattern, re.ASCII), what) for pattern, what in _SURPRISES)


def surprise(text: str) -> str | None:
    """Why an unquoted `text` may not mean what it looks like, or None."""
    if not text or text[0] not in "+-.0123456789" or _INTEGER.fullmatch(text) or _DECIMAL.fullmatch(text):
        return None
    for pattern, what in _SURPRISE_PATTERNS:
        if pattern.fullmatch(text):
            return f"{quoted(text)[1:-1]} {what}, or quote it to mean the text"
    return None


def resolve(text: str) -> object:
    """The value of an unquoted `text` that holds no surprise."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text
