"""The base of the value classes in policies.yaml, and how a refused value is quoted back."""

import json
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializationInfo
from pydantic_core import CoreSchema, core_schema

from proxy.config.environment import Expanded

_MAX_SHOWN = 60


def shown(value: object) -> str:
    """`value` as a message may quote it: short, printable, and never something that came from the environment."""
    match value:
        case Expanded():
            return "the value from the environment"
        case str():
            return quoted(value)
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case None:
            return "an empty value"
        case dict():
            return "a mapping"
        case _:
            return "a list"


def quoted(text: str) -> str:
    """`text` in double quotes, cut to a line's worth, control characters escaped."""
    short = text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
    return f'"{short}"' if short.isprintable() else json.dumps(short)


class Scalar:
    """A value written as text in the file. Subclasses say how to `parse` it; `str()` gives the text back."""

    __slots__ = ()

    schema: ClassVar[dict[str, Any]]
    """JSON Schema of the text."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """The value of a scalar from the file. Raises ValueError saying what is allowed."""
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(value),
            serialization=core_schema.plain_serializer_function_ser_schema(
                cls._dump, is_field_serializer=False, info_arg=True, when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(cls.schema)

    def _dump(self, info: SerializationInfo) -> str:
        return str(self)
