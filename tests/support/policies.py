"""Policies files for tests: written to a folder and loaded as every command loads them."""

from collections.abc import Mapping
from pathlib import Path

from proxy.config.loader import Loaded
from proxy.config.problems import ConfigError
from proxy.policies_file import load

UPSTREAMS = "upstreams:\n  api: {url: http://127.0.0.1:3000}\n"
ROUTES = 'routes:\n  - {name: all, match: "* /*"}\n'


def load_text(folder: Path, text: str, env: Mapping[str, str] | None = None) -> Loaded:
    """Load `text`. Raises ConfigError."""
    path = folder / "policies.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, {} if env is None else env)


def problems_of(folder: Path, text: str | bytes, env: Mapping[str, str] | None = None) -> list[str]:
    """The problems in `text`, each as `line:column: message`; empty when it loads."""
    path = folder / "policies.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    try:
        load(path, {} if env is None else env)
    except ConfigError as error:
        return [str(problem).removeprefix(f"{path}:").strip() for problem in error.problems]
    return []


def with_server(settings: str) -> str:
    """A file whose `server` section is the flow mapping `settings`."""
    return f"server: {settings}\n{UPSTREAMS}{ROUTES}"


def with_upstream(settings: str) -> str:
    """A file whose only upstream, `api`, is the flow mapping `settings`."""
    return f"upstreams:\n  api: {settings}\n{ROUTES}"


def with_route(settings: str) -> str:
    """A file whose only route, `r`, matches GET /x/{id} and has `settings` besides."""
    return f"{UPSTREAMS}routes:\n  - {{name: r, match: 'GET /x/{{id}}', {settings}}}\n"
