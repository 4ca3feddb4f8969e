"""The head of an interim response as the client gets it."""

from proxy.config.model import RouteConfig
from proxy.protocol.encoded import status_line
from proxy.protocol.fields import INTERNAL, KINDS
from proxy.protocol.headers import HeaderEditor, RawHeaders


def interim_head(route: RouteConfig, status: int, fields: RawHeaders) -> bytes:
    """A 1xx response of the upstream, less our internal fields and those that the route removes or sets by itself."""
    edit = route.headers.response
    kept = HeaderEditor({}, (*edit.set, *edit.remove)).apply(fields)
    lines = [b": ".join(field) for field in kept if not KINDS[field[0]] & INTERNAL]
    return b"\r\n".join([status_line(status, b""), *lines, b"", b""])
