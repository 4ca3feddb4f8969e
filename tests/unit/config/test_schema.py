"""The JSON Schema says what the loader says."""

from collections.abc import Iterator
from typing import Any

from proxy.config.schema import policies_schema


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for child in node.values():
            yield from nodes(child)
    elif isinstance(node, list):
        for child in node:
            yield from nodes(child)


def test_every_section_refuses_unknown_keys() -> None:
    schema = policies_schema()
    sections = [schema, *(each for each in schema["$defs"].values() if "properties" in each)]

    assert len(sections) >= 12
    assert all(section["additionalProperties"] is False for section in sections)


def test_nothing_may_be_null_and_nothing_has_a_title_of_code() -> None:
    found = list(nodes(policies_schema()))

    assert not any(node.get("type") == "null" for node in found)
    assert [node["title"] for node in found if isinstance(node.get("title"), str)] == ["Tidegate policies.yaml"]


def test_fields_are_described() -> None:
    definitions = policies_schema()["$defs"]

    assert definitions["TimeoutConfig"]["properties"]["attempt"]["description"] == "One call of the upstream."
    assert "total" not in definitions["TimeoutConfig"].get("required", [])
