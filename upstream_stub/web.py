"""What every endpoint shares: JSON answers with validators (RFC 9110 §8.8), problem answers (RFC 9457), parameters."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

NO_STORE = {"Cache-Control": "no-store"}
MAX_BODY = 64 * 1024
# column names come from SQLAlchemy as a subclass of str, which orjson counts as another type
_JSON_OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS
_INTEGER = re.compile(r"[0-9]{1,18}", re.ASCII)


class Problem(HTTPException):
    """An error answer: `detail` says what is wrong, in our words only."""


class JsonResponse(Response):
    """JSON written by orjson; dates are UTC with a Z."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of `content`."""
        return orjson.dumps(content, option=_JSON_OPTIONS)


class ProblemResponse(JsonResponse):
    """A problem answer for `status`."""

    media_type = "application/problem+json"

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
        super().__init__(content, status, NO_STORE | dict(headers or {}))


def cacheable(request: Request, content: Any, max_age: int, modified: datetime | None = None) -> Response:
    """A 200 with ETag and freshness (`max_age` seconds), or a 304 when the client already has it."""
    response = JsonResponse(content, headers={"Cache-Control": f"public, max-age={max_age}"})
    response.headers["ETag"] = f'"{hashlib.blake2b(response.body, digest_size=12).hexdigest()}"'
    if modified is not None:
        response.headers["Last-Modified"] = format_datetime(modified.replace(tzinfo=UTC), usegmt=True)
    if not _not_modified(request, response.headers["ETag"], modified):
        return response
    kept = {
        name: response.headers[name] for name in ("cache-control", "etag", "last-modified") if name in response.headers
    }
    return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)


def _not_modified(request: Request, etag: str, modified: datetime | None) -> bool:
    """RFC 9110 §13.2.2: If-None-Match decides alone where it is sent."""
    if (tags := request.headers.get("if-none-match")) is not None:
        return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in tags.split(","))
    since = request.headers.get("if-modified-since")
    if since is None or modified is None:
        return False
    try:
        return modified.replace(tzinfo=UTC, microsecond=0) <= parsedate_to_datetime(since).astimezone(UTC)
    except (ValueError, OverflowError):
        return False


def integer(text: str, name: str) -> int:
    """`text` as a number without a sign. Raises Problem 400, which names the parameter."""
    if not _INTEGER.fullmatch(text):
        raise Problem(400, f"{name} must be a whole number")
    return int(text)


def query_integer(request: Request, name: str) -> int | None:
    """The query parameter `name`, None where it is missing. Raises Problem 400."""
    text = request.query_params.get(name)
    return None if text is None else integer(text, name)


def page_size(request: Request) -> int:
    """The query parameter `limit`: 1 to 100, 20 where it is missing. Raises Problem 400."""
    limit = query_integer(request, "limit")
    if limit is None:
        return 20
    if not 1 <= limit <= 100:
        raise Problem(400, "limit must be from 1 to 100")
    return limit


async def json_body(request: Request) -> Any:
    """The request's body as JSON. Raises Problem 413 above 64 KiB, 400 where it is not JSON."""
    try:
        return orjson.loads(await raw_body(request))
    except orjson.JSONDecodeError as error:
        raise Problem(400, "the body must be JSON") from error


async def raw_body(request: Request) -> bytes:
    """The request's body. Raises Problem 413 above 64 KiB."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise Problem(413, "the body is larger than 64 KiB")
    return bytes(body)


async def answer_problem(_request: Request, error: Exception) -> Response:
    """The problem answer for an HTTP error; anything else is a fault of ours: 500."""
    if isinstance(error, HTTPException):
        return ProblemResponse(error.status_code, error.detail, error.headers)
    return ProblemResponse(500, "the service failed")
