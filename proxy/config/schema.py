"""The JSON Schema of policies.yaml (draft 2020-12), for editors and CI."""

from typing import Any

from proxy.config.forms import PoliciesForm

_FROM_ENVIRONMENT = {"$ref": "#/$defs/FromEnvironment"}
_SCALAR_TYPES = ("integer", "number", "boolean", "string")


def policies_schema() -> dict[str, Any]:
    """The schema of the file's form, short forms included; every scalar may also be written as `${VAR}`."""
    schema: dict[str, Any] = _adapt(PoliciesForm.model_json_schema())
    definitions = schema.pop("$defs")
    definitions["FromEnvironment"] = {
        "type": "string",
        "pattern": r"\$\{[A-Za-z_]",
        "description": "${VAR} or ${VAR:-default}, read from the environment.",
    }
    title = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Tidegate policies.yaml"}
    return {**schema, **title, "$defs": definitions}


def _adapt(node: Any) -> Any:
    """pydantic's schema without titles, nulls and defaults (in code's units), with variables for any scalar."""
    if isinstance(node, list):
        return [_adapt(each) for each in node]
    if not isinstance(node, dict):
        return node
    adapted = {key: _adapt(value) for key, value in node.items() if key not in ("title", "default", "properties")}
    if "properties" in node:
        adapted["properties"] = {name: _adapt(value) for name, value in node["properties"].items()}
    if node.get("type") in _SCALAR_TYPES or "enum" in node:
        adapted = _or_variable(adapted)
    return _flatten(adapted) if "anyOf" in adapted else adapted


def _or_variable(scalar: dict[str, Any]) -> dict[str, Any]:
    description = {"description": scalar.pop("description")} if "description" in scalar else {}
    return {"anyOf": [scalar, _FROM_ENVIRONMENT], **description}


def _flatten(node: dict[str, Any]) -> dict[str, Any]:
    """Alternatives of alternatives side by side, each once; no null, which the file never takes."""
    branches: list[dict[str, Any]] = []
    for branch in node["anyOf"]:
        for each in branch["anyOf"] if branch.keys() == {"anyOf"} else [branch]:
            if each not in branches and each != {"type": "null"}:
                branches.append(each)
    return {**node, "anyOf": branches}
