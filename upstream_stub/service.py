"""The endpoints that are not about properties: health, login and webhooks."""

import hashlib
import hmac
import re

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import Response

from upstream_stub.database import engine_of
from upstream_stub.web import NO_STORE, JsonResponse, Problem, json_body, raw_body

EMAIL = "demo@example.com"
PASSWORD = "demo"
TOKEN_KEY = b"upstream_stub"
TOKEN_SECONDS = 3600
_SOURCE = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)


async def health(request: Request) -> Response:
    """GET /health: 200 while the database answers."""
    async with engine_of(request).connect() as connection:
        await connection.execute(select(1))
    return JsonResponse({"status": "ok"}, headers=NO_STORE)


async def login(request: Request) -> Response:
    """POST /auth/login with `email` and `password`: a bearer token, the same at every login, or 401."""
    sent = await json_body(request)
    if not isinstance(sent, dict) or not all(isinstance(sent.get(name), str) for name in ("email", "password")):
        raise Problem(422, "email and password must be text")
    if (sent["email"], sent["password"]) != (EMAIL, PASSWORD):
        raise Problem(401, "email or password is wrong", {"WWW-Authenticate": "Bearer"})
    token = hmac.new(TOKEN_KEY, EMAIL.encode(), hashlib.sha256).hexdigest()
    content = {"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS}
    return JsonResponse(content, headers=NO_STORE)


async def receive_webhook(request: Request) -> Response:
    """POST /webhooks/{source}: 202, with what arrived."""
    source = request.path_params["source"]
    if not _SOURCE.fullmatch(source):
        raise Problem(404, "there is no such source")
    body = await raw_body(request)
    content = {"source": source, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    return JsonResponse(content, 202, NO_STORE)
