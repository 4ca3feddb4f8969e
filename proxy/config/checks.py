"""What one value cannot show: contradictions between the parts of a file.

Each check yields the path of what is wrong and a message. They also run on the sound parts of a file that has other
mistakes, so that all problems are reported at once.
"""

import ssl
from collections.abc import Iterator
from pathlib import Path

from proxy.config.addresses import WILDCARDS, ListenAddress, UpstreamUrl, is_loopback
from proxy.config.check_caching import find_caching_contradictions, find_caching_doubts
from proxy.config.check_policies import fallback_upstreams, find_policy_contradictions, find_policy_doubts
from proxy.config.checked import Checked, Finding
from proxy.config.document import Document, Loc
from proxy.config.forms import UpstreamForm
from proxy.config.model import TlsConfig
from proxy.config.resolve import tls_files
from proxy.config.scalar import quoted, shown

UNMATCHED = "unmatched"
"""In metrics and logs, the route of requests that have none."""


def find_contradictions(checked: Checked) -> Iterator[Finding]:
    """All of them."""
    yield from _listeners(checked)
    yield from _admin_exposure(checked)
    yield from _upstreams(checked)
    yield from _route_names(checked)
    yield from _route_upstreams(checked)
    yield from find_policy_contradictions(checked)
    yield from find_caching_contradictions(checked)


# --- listeners ------------------------------------------------------------------------------------------------------


def _bound(checked: Checked) -> dict[Loc, ListenAddress]:
    server = checked.form.server
    bound: dict[Loc, ListenAddress] = {("server", "listen"): server.listen}
    if server.admin is not None:
        bound["server", "admin"] = server.admin.listen
    if server.health is not None:
        bound["server", "health"] = server.health
    return {path: address for path, address in bound.items() if path not in checked.unsound}


def _listeners(checked: Checked) -> Iterator[Finding]:
    earlier: dict[Loc, ListenAddress] = {}
    for path, address in _bound(checked).items():
        for other_path, other in earlier.items():
            if address.overlaps(other):
                name = ".".join(map(str, other_path))
                yield path, f"{address} is already taken by {name} ({other}): give each listener its own port"
        earlier[path] = address


def _admin_exposure(checked: Checked) -> Iterator[Finding]:
    admin = checked.form.server.admin
    if admin is None or ("server", "admin") in checked.unsound or not admin.listen.is_public or admin.token is not None:
        return
    if not any(network.prefixlen for network in admin.allow):
        yield (
            ("server", "admin"),
            f"{admin.listen} is a public bind of the admin listener: give it a `token` or an `allow` list, "
            "or bind it to 127.0.0.1",
        )


# --- upstreams ------------------------------------------------------------------------------------------------------


def _upstreams(checked: Checked) -> Iterator[Finding]:
    if not checked.document.get(("upstreams",)):
        yield ("upstreams",), "`upstreams` is empty: name at least one service"
    for name, upstream in checked.form.upstreams.items():
        path: Loc = ("upstreams", name)
        yield from _endpoints(checked, path, upstream)
        yield from _tls(checked, path, upstream)
        if upstream.ejection is not None and upstream.ejection.max_duration < upstream.ejection.duration:
            yield (*path, "ejection"), "`max_duration` is shorter than `duration`: the longest ejection comes last"


def _endpoints(checked: Checked, path: Loc, upstream: UpstreamForm) -> Iterator[Finding]:
    for place, url in _urls(path, upstream):
        for listener_path, listener in _bound(checked).items():
            if _reaches(url, listener):
                name = ".".join(map(str, listener_path))
                yield place, f"{url} is Tidegate itself ({name}): an upstream must be another process"
                break


def _urls(path: Loc, upstream: UpstreamForm) -> Iterator[tuple[Loc, UpstreamUrl]]:
    if upstream.url is not None:
        yield (*path, "url"), upstream.url
    for index, url in enumerate(upstream.endpoints or ()):
        yield (*path, "endpoints", index), url


def _reaches(url: UpstreamUrl, listener: ListenAddress) -> bool:
    if url.path or listener.path:
        return url.path == listener.path
    if url.port != listener.port:
        return False
    if is_loopback(url.host):
        return is_loopback(listener.host) or listener.host in WILDCARDS
    return url.host == listener.host


def _tls(checked: Checked, path: Loc, upstream: UpstreamForm) -> Iterator[Finding]:
    tls = upstream.tls
    if not tls.model_fields_set:
        return
    path = (*path, "tls")
    if any(url.scheme != "https" for _, url in _urls(path, upstream)):
        yield path, "`tls` is for https endpoints only: write https://… or remove it"
    elif (tls.cert is None) != (tls.key is None):
        yield path, "`cert` and `key` come together: write both or neither"
    else:
        yield from _tls_files(path, tls, checked.folder)


def _tls_files(path: Loc, tls: TlsConfig, folder: Path) -> Iterator[Finding]:
    files = {key: folder / name for key, name in tls_files(tls).items()}
    unreadable = False
    for key, file in files.items():
        try:
            file.read_bytes()
        except OSError as error:
            unreadable = True
            yield (*path, key), f"cannot read {quoted(str(file))}: {error.strerror}"
    if unreadable:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if "ca" in files:
            context.load_verify_locations(files["ca"])
    except ssl.SSLError:
        yield (*path, "ca"), "the file holds no CA certificates in PEM form"
    try:
        if "cert" in files:
            # The empty password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(files["cert"], files["key"], password="")
    except (ssl.SSLError, ValueError):
        yield (*path, "cert"), "`cert` and `key` are not a certificate and its unencrypted key in PEM form"


# --- routes ---------------------------------------------------------------------------------------------------------


def _route_names(checked: Checked) -> Iterator[Finding]:
    routes = checked.document.get(("routes",))
    if not routes or not isinstance(routes, tuple):
        yield ("routes",), '`routes` is empty: write at least one, such as {name: all, match: "* /*"}'
        return
    first: dict[object, int] = {}
    for index in range(len(routes)):
        name = checked.document.get(("routes", index, "name"))
        if name == UNMATCHED:
            yield (
                ("routes", index, "name"),
                f"{quoted(UNMATCHED)} stands for requests without a route: choose another name",
            )
        if isinstance(name, str) and name in first:
            line = checked.document.value_mark(("routes", first[name], "name")).line
            yield ("routes", index, "name"), f"route {quoted(name)} is there twice: the first is in line {line}"
        first.setdefault(name, index)


def _route_upstreams(checked: Checked) -> Iterator[Finding]:
    known = checked.document.get(("upstreams",))
    names = list(known) if isinstance(known, dict) else []
    default = checked.form.defaults.upstream
    default_unsound = ("defaults", "upstream") in checked.unsound
    if default is not None and default not in names:
        yield _unknown_upstream(("defaults", "upstream"), checked.document, names)
    for path, route in checked.routes():
        if route.upstream is not None and route.upstream not in names:
            yield _unknown_upstream((*path, "upstream"), checked.document, names)
        elif route.upstream is None and default is None and len(names) > 1 and not default_unsound:
            yield path, f"route {quoted(route.name)} needs an `upstream`: there are several, {', '.join(names)}"


def _unknown_upstream(path: Loc, document: Document, names: list[str]) -> Finding:
    return path, f"{shown(document.get(path))} is not the name of an upstream: there are {', '.join(names)}"


# --- warnings -------------------------------------------------------------------------------------------------------

_MAX_TRUSTED_ADDRESSES = 256


def find_doubts(checked: Checked) -> Iterator[Finding]:
    """What is allowed but is rarely meant. For a form without mistakes."""
    for index, network in enumerate(checked.form.server.trusted_proxies):
        if network.num_addresses > _MAX_TRUSTED_ADDRESSES:
            yield (
                ("server", "trusted_proxies", index),
                f"{network} is a wide network: every machine in it can claim any client address; name the proxies",
            )
    used = {route.upstream or checked.form.defaults.upstream for route in checked.form.routes}
    used |= fallback_upstreams(checked)
    if len(checked.form.upstreams) > 1:
        for name in checked.form.upstreams.keys() - used:
            yield ("upstreams", name), f"no route uses the upstream {quoted(name)}"
    yield from find_policy_doubts(checked)
    yield from find_caching_doubts(checked)
