"""What all endpoints share: bodies are strict JSON, and what may go wrong is told alike."""

from collections.abc import Callable, Coroutine
from inspect import signature
from typing import Any, Final

import orjson
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from feature_repo.errors import InputError
from serving import strict_json
from serving.replies import Failed, Refused

BODY: Final = "body"
"""Name of the argument that takes the body, and of what is wrong with all of it."""
_JSON: Final = "application/json"

Endpoint = Callable[..., Coroutine[Any, Any, Any]]
Responses = dict[int | str, dict[str, Any]]
UNAVAILABLE: Final[Responses] = {503: {"model": Failed, "description": "Try again after Retry-After."}}
TAKES_BODY: Final[Responses] = {
    400: {"model": Failed, "description": "The body is not JSON."},
    413: {"model": Failed, "description": "The body is too large."},
    415: {"model": Failed, "description": "The body is not said to be application/json."},
    422: {"model": Refused, "description": "Fields are wrong; nothing was done."},
    **UNAVAILABLE,
}


class JsonRoute(APIRoute):
    """Reads bodies by the rules of ``strict_json``, takes no other kind, and answers with what orjson writes.

    FastAPI documents such a route; its own way from a body to a reply, by way of dependencies that none of these
    routes has, takes as long as all else around a slate. A route without a body goes FastAPI's way.
    """

    def __init__(self, path: str, endpoint: Endpoint, **declared: Any) -> None:
        super().__init__(path, endpoint, **declared)
        if self.body_field is None:
            return
        parameters = signature(endpoint).parameters
        if list(parameters) != [BODY]:
            raise TypeError(f"{path} takes more than a body: give it an argument {BODY} and no other")
        self.app = _answering(endpoint, TypeAdapter(parameters[BODY].annotation))


def _answering(answer: Endpoint, takes: TypeAdapter[Any]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _JSON:
            raise HTTPException(415, f"send JSON and say so: Content-Type: {_JSON}")
        reply = await answer(_received(takes, await request.body()))
        await Response(orjson.dumps(reply), media_type=_JSON)(scope, receive, send)

    return app


def _received(takes: TypeAdapter[Any], content: bytes) -> object:
    """What a body says. Raises HTTPException or RequestValidationError."""
    try:
        value = strict_json.parse(content) if content else None
    except InputError as error:
        raise HTTPException(400, str(error)) from None
    if value is None:
        raise RequestValidationError([{"type": "missing", "loc": (BODY,), "msg": "", "input": None}])
    try:
        return takes.validate_python(value)
    except ValidationError as error:
        raise RequestValidationError(
            [{**found, "loc": (BODY, *found["loc"])} for found in error.errors(include_url=False)]
        ) from None
