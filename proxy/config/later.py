"""Keys that the file's form reserves and this version does not act on.

They may be written as `off` or `none`, which is what happens anyway; every other value is refused, because a policy
that is silently ignored is worse than none. The list shrinks as layers are added.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo

from proxy.config.types import is_off


def not_available(key: str) -> str:
    """The message that refuses `key`."""
    return f"`{key}` is not available in this version"


def _refuse_unless_off(value: object, info: ValidationInfo) -> None:
    if not is_off(value):
        raise ValueError(not_available("validate" if info.field_name == "validation" else str(info.field_name)))


Later = Annotated[None, BeforeValidator(_refuse_unless_off, json_schema_input_type=Literal["off", "none", False])]


class LaterPolicies(BaseModel):
    """On a route and in `defaults`."""

    allow: Later = None
    signature: Later = None
    security_headers: Later = None
    cors: Later = None
    api_key: Later = None
    token: Later = None
    validation: Later = Field(None, alias="validate")
    """`validate` itself is taken by pydantic."""
