"""pydantic's errors in the words and places of the file."""

import difflib
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel

from proxy.config.document import Document, Loc
from proxy.config.environment import Expanded
from proxy.config.forms import PoliciesForm
from proxy.config.later import LaterPolicies
from proxy.config.policies import Policy
from proxy.config.problems import Mark
from proxy.config.scalar import quoted, shown

MISSING = "is missing"
"""In every message about a key that is not there."""

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ELSEWHERE = {
    **dict.fromkeys(("retries", "max_retries", "attempts", "num_retries"), ("max_attempts",)),
    **dict.fromkeys(("failure_threshold", "threshold", "failures"), ("consecutive_failures",)),
    **dict.fromkeys(("reset_timeout", "wait_duration", "open_duration"), ("break_duration",)),
    **dict.fromkeys(("max_queue", "queue_size", "max_queue_size"), ("max_queued",)),
    **dict.fromkeys(("limit", "requests"), ("rate",)),
    **dict.fromkeys(("circuit_breaker", "circuitbreaker"), ("breaker",)),
    "ratelimit": ("rate_limit",),
}
"""What other tools call the same thing."""
_WRONG_TYPE = {
    "string_type": "write one text",
    "int_type": "write a whole number, without quotes",
    "bool_type": "write true or false",
    "tuple_type": "write a list, as in [a, b] or as lines that begin with -",
    "dict_type": "write keys and values",
    "model_type": "write keys and values",
}


def place(error: "ErrorDetails", document: Document) -> Mark:
    """Where `error` is: the key's place for a key that is unknown or badly named, else the value's."""
    path = document.existing(error["loc"])
    if error["type"] == "extra_forbidden" or error["loc"][-1:] == ("[key]",):
        return document.key_mark(path)
    return document.value_mark(path)


def describe(error: "ErrorDetails", document: Document) -> str:
    """One line: what is wrong where, and what is allowed."""
    loc = error["loc"]
    match error["type"]:
        case "extra_forbidden":
            return _unknown_key(loc, document)
        case "missing":
            return f'"{loc[-1]}" {MISSING}{_inside(loc[:-1], document)}'
    return f"{_subject(document.existing(loc), document)}: {_reason(error, document)}"


def _reason(error: "ErrorDetails", document: Document) -> str:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_type" and isinstance(value, int | float):
        source = document.sources.get(document.existing(error["loc"]), str(value))
        meaning = shown(value) if isinstance(value, bool) else "a number"
        return f"{source} is read as {meaning}: quote it to mean the text"
    if kind in _WRONG_TYPE:
        return f"{shown(value)} is not allowed: {_WRONG_TYPE[kind]}"
    if kind == "literal_error":
        return f"{shown(value)} is not allowed: write {str(context['expected']).replace(chr(39), '').lower()}"
    if kind == "greater_than_equal":
        return f"{shown(value)} is too small: at least {context['ge']}"
    if kind == "less_than_equal":
        return f"{shown(value)} is too large: at most {context['le']}"
    if kind == "too_short":
        return "must not be empty"
    return f"{shown(value)}: {error['msg']}"


# --- names of places ------------------------------------------------------------------------------------------------


def _section(loc: Loc, document: Document) -> tuple[str, Loc]:
    """The outermost section that `loc` is in, as people call it, and the rest of `loc`."""
    match loc:
        case ("routes", int(index), *rest):
            name = document.get(("routes", index, "name"))
            nameless = not isinstance(name, str) or isinstance(name, Expanded)
            return f"route number {index + 1}" if nameless else f"route {quoted(str(name))}", tuple(rest)
        case ("upstreams", str(name), *rest):
            return f"upstream {quoted(name)}", tuple(rest)
        case ("defaults", *rest):
            return "defaults", tuple(rest)
    return "", loc


def _dotted(loc: Loc) -> str:
    return ".".join(part for part in loc if isinstance(part, str) and part != "[key]")


def _inside(loc: Loc, document: Document) -> str:
    section, rest = _section(loc, document)
    within = _dotted(rest)
    if section:
        return f" in {within} of {section}" if within else f" in {section}"
    return f" in {within}" if within else ""


def _subject(path: Loc, document: Document) -> str:
    section, rest = _section(path, document)
    name = _dotted(rest)
    if section:
        return f"{name} in {section}" if name else section
    return name or "the file"


# --- unknown keys ---------------------------------------------------------------------------------------------------


def _unknown_key(loc: Loc, document: Document) -> str:
    key = str(loc[-1])
    allowed = _keys_at(loc[:-1])
    meant = [name for name in _ELSEWHERE.get(key, ()) if name in allowed]
    close = meant or difflib.get_close_matches(key[:64].lower(), allowed, n=1, cutoff=0.6)
    hint = f'did you mean "{close[0]}"?' if close else f"allowed are {', '.join(allowed)}"
    return f"unknown key {quoted(key)}{_inside(loc[:-1], document)}: {hint}"


def _keys_at(loc: Loc) -> list[str]:
    """The keys that the mapping at `loc` may have."""
    model: type[BaseModel] = PoliciesForm
    in_container = False
    for part in loc:
        if in_container or isinstance(part, int):
            in_container = False
            continue
        annotation = model.model_fields[part].annotation
        in_container = _has_mapping(annotation)
        model = _model_in(annotation) or model
    fields = model.model_fields
    reserved = LaterPolicies.model_fields if issubclass(model, LaterPolicies) else {}
    common = Policy.model_fields if issubclass(model, Policy) else {}
    own = [field.alias or name for name, field in fields.items() if name not in reserved and name not in common]
    return own + list(common)


def _has_mapping(annotation: Any) -> bool:
    """Whether the model inside `annotation` is that of the entries of a mapping, whose keys are the user's."""
    return get_origin(annotation) is dict or any(_has_mapping(each) for each in get_args(annotation))


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `dict[str, Model]`, `tuple[Model, ...]`, `Model | None` or an Annotated of them."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        return annotation
    return next((model for each in get_args(annotation) if (model := _model_in(each))), None)
