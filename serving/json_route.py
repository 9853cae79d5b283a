"""What all endpoints share: bodies are strict JSON, and what may go wrong is told alike."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from feature_repo.errors import InputError
from serving import strict_json
from serving.schemas import Failed, Refused

Responses = dict[int | str, dict[str, Any]]
UNAVAILABLE: Final[Responses] = {503: {"model": Failed, "description": "Try again after Retry-After."}}
TAKES_BODY: Final[Responses] = {
    400: {"model": Failed, "description": "The body is not JSON."},
    413: {"model": Failed, "description": "The body is too large."},
    415: {"model": Failed, "description": "The body is not said to be application/json."},
    422: {"model": Refused, "description": "Fields are wrong; nothing was done."},
    **UNAVAILABLE,
}


class _JsonRequest(Request):
    async def json(self) -> Any:
        try:
            return strict_json.parse(await self.body())
        except InputError as error:
            raise HTTPException(400, str(error)) from None


class JsonRoute(APIRoute):
    """Reads bodies by the rules of ``strict_json`` and takes no other kind."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of the route behind these rules."""
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if self.body_field is not None and kind != "application/json":
                raise HTTPException(415, "send JSON and say so: Content-Type: application/json")
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_json
