"""Who is let in: a request shows a key, of the scope that its route needs, within the key's rate.

A route declares its scope as the OpenAPI document shows it, ``openapi_extra=needs(KeyScope.READ)``, or that it is
``OPEN``. It is judged by what it declares before anything of its body is read.
"""

import math
from collections.abc import Iterable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.access.api_keys import KeyScope
from serving.access.live_keys import LiveKeys
from serving.access.work_limit import WorkLimit
from serving.metrics import Metrics, TurnedAway
from serving.replies import Failed

SECURITY_SCHEME: Final = "ApiKey"
OPEN: Final[dict[str, Any]] = {"security": []}
"""What a route declares that answers everyone, always."""
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
_DESCRIPTIONS: Final = {
    "401": "No API key that is known was sent.",
    "403": "The API key lacks the scope.",
    "429": "The API key asks too often. Try again after Retry-After.",
}


def needs(scope: KeyScope) -> dict[str, Any]:
    """What a route declares that needs a key of this scope."""
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{Failed.__name__}"}}}
    return {
        "security": [{SECURITY_SCHEME: [scope.value]}],
        "responses": {
            status: {"description": description, "content": body}
            for status, description in _DESCRIPTIONS.items()
        },
    }


def needed_scope(route: APIRoute) -> KeyScope | None:
    """The scope that a route declares; None for one that is open. Raises ValueError for one that says neither."""
    declared = (route.openapi_extra or {}).get("security")
    if declared is None:
        raise ValueError(
            f"{route.path} says neither which scope it needs nor that it is open: declare openapi_extra"
        )
    return KeyScope(declared[0][SECURITY_SCHEME][0]) if declared else None


class DocumentedApi(FastAPI):
    """An app whose OpenAPI document says what an API key is."""

    def openapi(self) -> dict[str, Any]:
        """The document, made when it is first asked for."""
        document = super().openapi()
        document["components"]["securitySchemes"] = {SECURITY_SCHEME: {"type": "http", "scheme": "bearer"}}
        return document


class Admission:
    """Guards the routes of one app."""

    def __init__(self, keys: LiveKeys, work: WorkLimit, metrics: Metrics) -> None:
        self._keys = keys
        self._work = work
        self._metrics = metrics

    def guard(self, routes: Iterable[object]) -> None:
        """Have every route of an API ask for what it declares. Raises ValueError for one that declares nothing."""
        for route in routes:
            if isinstance(route, APIRoute) and (needed := needed_scope(route)):
                # What watches an overload must see it: metrics do not count as work.
                app = route.app if needed is KeyScope.METRICS else self._work.limited(route.app)
                route.app = self.guarded(app, needed)

    def guarded(self, app: ASGIApp, needed: KeyScope) -> ASGIApp:
        """An app that answers 401, 403 or 429 in the place of ``app`` to who may not ask it."""

        async def admit(scope: Scope, receive: Receive, send: Send) -> None:
            refusal = None if self._keys.open else self._refusal(scope, needed)
            await (refusal or app)(scope, receive, send)

        return admit

    def _refusal(self, scope: Scope, needed: KeyScope) -> JSONResponse | None:
        """The answer to who is not let in; None for who is, which costs its key a token."""
        secret = _bearer(scope)
        if not secret:
            what = "this needs an API key: send it as Authorization: Bearer KEY; `freshet keys add` makes one"
            return self._refuse(401, TurnedAway.NO_KEY, what, _CHALLENGE)
        known = self._keys.find(secret)
        if known is None:
            what = "this API key is unknown: look for a mistake, or make another with `freshet keys add`"
            return self._refuse(401, TurnedAway.UNKNOWN_KEY, what, _CHALLENGE)
        key, bucket = known
        if needed not in key.scopes:
            what = f"the API key {key.name} lacks the scope {needed}: use a key that has it"
            return self._refuse(403, TurnedAway.SCOPE, what, {})
        wait = bucket.take() if bucket else 0.0
        if wait:
            what = f"the API key {key.name} has {key.per_second:g} requests a second: try again after Retry-After"
            return self._refuse(429, TurnedAway.RATE, what, {"Retry-After": str(math.ceil(wait))})
        return None

    def _refuse(self, status: int, why: TurnedAway, what: str, headers: dict[str, str]) -> JSONResponse:
        self._metrics.count_turned_away(why)
        return JSONResponse(Failed(detail=what).model_dump(), status, headers)


def _bearer(scope: Scope) -> bytes:
    """The secret that a request shows; empty when it shows none."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, secret = value.partition(b" ")
            return secret.strip() if scheme.lower() == b"bearer" else b""
    return b""
