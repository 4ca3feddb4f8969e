"""Answers of the admin and health listeners: JSON, and problems in the form of RFC 9457."""

from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Server": "tidegate",
    "X-Content-Type-Options": "nosniff",
}


def json_response(content: Any, status: int = 200) -> web.Response:
    """`content` as JSON; dataclasses are written as objects."""
    body = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=status, content_type="application/json")


def problem(status: int, detail: str = "") -> web.Response:
    """A refusal; `detail` never repeats the request."""
    fields = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    body = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=status, content_type="application/problem+json", headers=SECURITY_HEADERS)


def problem_of(error: web.HTTPException) -> web.Response:
    """The refusal that aiohttp or a check has raised."""
    is_our_text = error.text is not None and not error.text.startswith(f"{error.status}:")
    response = problem(error.status, error.text or "" if is_our_text else "")
    for name in ("Allow", "WWW-Authenticate"):
        if name in error.headers:
            response.headers[name] = error.headers[name]
    return response
