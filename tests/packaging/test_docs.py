"""What the docs say and code can check: links, tables of keys and errors, names of metrics, examples of commands."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.config.base import Model
from proxy.config.caching import CacheConfig, CacheStoreConfig
from proxy.config.model import Limits, ServerConfig, UpstreamSettings
from proxy.config.policies import BreakerConfig, BulkheadConfig, Policy, RedisSettings, RetryConfig, TimeoutConfig
from proxy.config.presets import CACHE_PRESETS, TIMEOUT_PRESETS
from proxy.config.quantities import parse_duration
from proxy.errors import ClientError, ProxyError, UpstreamError
from proxy.explain import Refused, explain
from proxy.policies_file import load
from proxy.telemetry.metrics import FAMILIES
from tests.support.policies import load_text, problems_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
POLICY_PAGES = [
    *("timeouts", "retry", "breaker", "bulkhead", "rate-limit", "fallback", "cache", "invalidation"),
    *("shadow", "shedding", "redis", "workers", "routing", "upstreams", "limits", "client-identity"),
    *("errors", "lifecycle"),
]
TEMPLATE = ["What it does", "When to use it", "Keys", "Metrics", "What the client sees", "Anti-patterns"]

Row = dict[str, str]


def prose(path: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def section(path: Path, heading: str) -> str:
    return re.split(r"^## ", prose(path).partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[Row]:
    """The rows of all tables, by their headers. A cell that is one word of code comes without its backticks."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        header, _, *lines = [[cell.strip() for cell in line[1:].split("|")[:-1]] for line in table.splitlines()]
        for line in lines:
            yield {bare(name): bare(cell) for name, cell in zip(header, line, strict=True)}


def bare(cell: str) -> str:
    return re.sub(r"^`([^`]*)`$", r"\1", cell)


# --- links ----------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_internal_links_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if "://" not in target and (not file.exists() or (anchor and anchor not in anchors(file))):
            broken.append(target)

    assert broken == []


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([a-z-]+\.md)\)", (DOCS / "README.md").read_text(encoding="utf-8")))

    assert linked == {page.name for page in DOCS.glob("*.md")} - {"README.md"}


def test_every_decision_is_in_its_index() -> None:
    listed = re.findall(r"\]\(([0-9]{4}-[a-z-]+\.md)\)", (DOCS / "adr/README.md").read_text(encoding="utf-8"))

    assert listed == [page.name for page in sorted((DOCS / "adr").glob("0*.md"))]


# --- pages about what a user configures -----------------------------------------------------------------------------


@pytest.mark.parametrize("page", POLICY_PAGES)
def test_policy_pages_have_one_form(page: str) -> None:
    headings = re.findall(r"^## (.*)$", prose(DOCS / f"{page}.md"), re.MULTILINE)

    assert [heading for heading in headings if heading in TEMPLATE] == TEMPLATE


@pytest.mark.parametrize("page", POLICY_PAGES)
def test_metrics_that_are_named_exist(page: str) -> None:
    known = {family.name for family in FAMILIES} | {error.token for error in error_classes()}

    assert set(re.findall(r"\bproxy_[a-z_]+", prose(DOCS / f"{page}.md"))) <= known


@pytest.mark.parametrize(
    ("page", "heading", "model"),
    [
        ("timeouts", "Keys", TimeoutConfig()),
        ("limits", "Keys", Limits()),
        ("upstreams", "Keys", UpstreamSettings()),
        ("configuration", "`server`", Limits()),
        ("configuration", "`upstreams`", UpstreamSettings()),
        ("configuration", "`routes` and `defaults`", TimeoutConfig()),
        ("configuration", "Every policy", Policy()),
        ("configuration", "`redis`", RedisSettings()),
        ("configuration", "`retry`", RetryConfig()),
        ("configuration", "`breaker` and `breakers`", BreakerConfig()),
        ("configuration", "`bulkhead` and `bulkheads`", BulkheadConfig()),
        ("retry", "Keys", RetryConfig()),
        ("breaker", "Keys", BreakerConfig()),
        ("cache", "Keys", CacheConfig()),
        ("cache", "Keys", CacheStoreConfig()),
        ("configuration", "`cache` of a route", CacheConfig()),
        ("configuration", "`cache` of the file", CacheStoreConfig()),
        ("bulkhead", "Keys", BulkheadConfig()),
    ],
)
def test_defaults_are_the_models(page: str, heading: str, model: Model) -> None:
    defaults = documented_defaults(page, heading)

    shared = set() if type(model) is Policy else Policy.model_fields.keys()
    assert {key for key in type(model).model_fields if key not in defaults} <= shared
    assert differences(defaults, model) == {}


@pytest.mark.parametrize(("page", "heading"), [("lifecycle", "Keys"), ("configuration", "`server`")])
def test_defaults_of_the_server_are_the_models(page: str, heading: str) -> None:
    assert differences(documented_defaults(page, heading), ServerConfig()) == {}


def documented_defaults(page: str, heading: str) -> dict[str, str]:
    """Default by key; the first column is the key, whatever its header says."""
    found = [row for row in rows(section(DOCS / f"{page}.md", heading)) if "default" in row]
    return {next(iter(row.values())): row["default"].removesuffix(", or `off`") for row in found}


def differences(documented: dict[str, str], model: Model) -> dict[str, tuple[str, Any]]:
    """What is documented and what holds, where they differ. Sections and lists are told in words: left out here."""
    values = {key: getattr(model, key) for key in documented if hasattr(model, key)}
    return {
        key: (documented[key], held)
        for key, held in values.items()
        if not isinstance(held, Model | tuple) and documented[key] and read(type(model), key, documented[key]) != held
    }


def read(model: type[Model], key: str, text: str) -> Any:
    return getattr(model.model_validate({key: yaml.safe_load(text)}), key)


@pytest.mark.parametrize("key", ["health", "ejection"])
def test_long_forms_of_an_upstream_show_the_defaults(key: str) -> None:
    upstream = UpstreamSettings.model_validate({key: {}})
    meaning = next(row["meaning"] for row in rows(section(DOCS / "upstreams.md", "Keys")) if row["key"] == key)

    written = re.search(r"\{.*\}", meaning)

    assert written is not None
    assert yaml.safe_load(written[0]) == upstream.model_dump(mode="json")[key]


@pytest.mark.parametrize("page", ["timeouts", "configuration"])
def test_timeout_presets_are_documented(page: str) -> None:
    sentence = re.search(r"^.*presets set `total`:(.*)$", prose(DOCS / f"{page}.md"), re.MULTILINE | re.IGNORECASE)

    assert sentence is not None
    documented = dict(re.findall(r"`([a-z_]+)` ([0-9]+s)", sentence[1]))
    assert documented == TIMEOUT_PRESETS


@pytest.mark.parametrize("page", ["cache", "configuration"])
def test_cache_presets_are_documented(page: str) -> None:
    sentence = re.search(r"preset\s+stands\s+for\s+a\s+`ttl`:(.*?)\.\s", prose(DOCS / f"{page}.md"), re.DOTALL)

    assert sentence is not None
    documented = {name: parse_duration(ttl) for name, ttl in re.findall(r"`([a-z_]+)` ([0-9]+[mhd])", sentence[1])}
    assert documented == {name: preset["ttl"] for name, preset in CACHE_PRESETS.items()}


# --- errors ---------------------------------------------------------------------------------------------------------

BASES = (ProxyError, ClientError, UpstreamError)


def error_classes(base: type[ProxyError] = ProxyError) -> Iterator[type[ProxyError]]:
    """Every class of `proxy.errors` that stands for something that happens."""
    if base not in BASES and base.__module__ == "proxy.errors":
        yield base
    for derived in base.__subclasses__():
        yield from error_classes(derived)


@pytest.mark.parametrize("source", ["client", "proxy", "upstream"])
def test_error_tables_hold_every_error(source: str) -> None:
    chapter = section(DOCS / "errors.md", "What the client sees").partition(f'`source="{source}"`\n')[2]
    documented = [
        (row["type"], row["status"], row["error"], row["closes"])
        for row in rows(re.split("^### ", chapter, flags=re.MULTILINE)[0])
    ]

    errors = [error for error in error_classes() if error.source == source]

    assert sorted(documented) == sorted(
        (error.slug, str(error.status), error.token, "yes" if error.closes else "no") for error in errors
    )


def test_error_types_that_pages_name_exist() -> None:
    slugs = {error.slug for error in error_classes()}
    named = {
        slug
        for page in POLICY_PAGES
        for row in rows(section(DOCS / f"{page}.md", "What the client sees"))
        for slug in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", row.get("answer", ""))
    }

    assert named <= slugs
    assert "upstream-timeout" in named


# --- examples of commands -------------------------------------------------------------------------------------------

FIVE_MISTAKES = """\
server: {drain: 15}
upstreams:
  api: {url: "http://127.0.0.1:3000"}
routes:
  - name: search
    match: GET search
    retires: 3
  - name: rest
    match: "* /*"
    timeout: 1:30
    retry: slow
"""


def example(page: Path, command: str) -> str:
    """What a command prints, up to the next one or to an ellipsis."""
    text = page.read_text(encoding="utf-8").partition(f"$ {command}")[2].partition("\n")[2]
    return re.split(r"^(?:\$ |```|…)", text, maxsplit=1, flags=re.MULTILINE)[0]


def test_check_prints_what_the_readme_shows(tmp_path: Path) -> None:
    shown = example(ROOT / "README.md", "tidegate check bad.yaml").splitlines()

    assert shown == [f"bad.yaml:{problem}" for problem in problems_of(tmp_path, FIVE_MISTAKES)]


def test_explain_prints_what_the_readme_shows(tmp_path: Path) -> None:
    readme = ROOT / "README.md"
    policies = readme.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    shown = example(readme, "tidegate explain policies.yaml GET /properties/1/prediction").splitlines()

    printed = list(explain(load_text(tmp_path, policies), "GET", "/properties/1/prediction", []))

    assert shown == printed[: len(shown)]
    assert len(shown) > 5


def test_explain_prints_what_the_page_on_routing_shows() -> None:
    shown = example(DOCS / "routing.md", "tidegate explain policies.yaml GET '/admin/..%2fproperties/1'")

    with pytest.raises(Refused) as refused:
        list(explain(load(ROOT / "policies.yaml", {}), "GET", "/admin/..%2fproperties/1", []))

    assert shown == f"{refused.value}\n"
