"""The base of every section of policies.yaml."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Base of every section: unknown keys are errors, nothing changes after load."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)
