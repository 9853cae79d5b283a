"""Errors as the API tells them: what is wrong and where, never what was sent."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.requests import Request

from feature_repo.errors import BundleError, FreshetError, GoneError, LogUnavailableError, NotLoggedError
from serving.ingestion import RefusedEventsError
from serving.replies import Failed, Problem, Refused

RETRY_SECONDS: Final = 1
"""When to ask again for what is away: models are polled, and connections tried, about as often."""
MAX_PROBLEMS: Final = 100
"""Problems that one reply names; who has more has one cause for all of them."""
MAX_FIELD_LENGTH: Final = 128
_WORDS: Final = {
    "extra_forbidden": "is not a known field",
    "missing": "is required",
    "string_pattern_mismatch": "must be 1 to 128 characters, none of them a control character",
}
"""Plainer words for some of pydantic's errors, by type."""


def add_error_replies(app: FastAPI) -> None:
    """Have an app answer every error with a ``Refused`` or ``Failed`` body."""
    app.exception_handler(LogUnavailableError)(_unavailable)
    app.exception_handler(BundleError)(_unavailable)
    app.exception_handler(NotLoggedError)(_not_logged)
    app.exception_handler(GoneError)(_gone)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(RefusedEventsError)(_refused)
    app.exception_handler(Exception)(_broken)


async def _unavailable(_: Request, error: FreshetError) -> JSONResponse:
    reply = Failed(detail=str(error))
    return JSONResponse(reply.model_dump(), status_code=503, headers={"Retry-After": str(RETRY_SECONDS)})


async def _not_logged(_: Request, error: NotLoggedError) -> JSONResponse:
    return JSONResponse(Failed(detail=str(error)).model_dump(), status_code=404)


async def _gone(_: Request, error: GoneError) -> JSONResponse:
    return JSONResponse(Failed(detail=str(error)).model_dump(), status_code=410)


async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    return _refusal(
        [Problem(field=_field(found["loc"]), message=_message(found)) for found in error.errors()]
    )


async def _refused(_: Request, error: RefusedEventsError) -> JSONResponse:
    return _refusal(error.problems)


async def _broken(_: Request, __: Exception) -> JSONResponse:
    reply = Failed(detail="internal error: the server's own log tells more")
    return JSONResponse(reply.model_dump(), status_code=500)


def _refusal(problems: list[Problem]) -> JSONResponse:
    named = problems[:MAX_PROBLEMS]
    if len(problems) > MAX_PROBLEMS:
        named.append(Problem(field="body", message=f"has {len(problems) - MAX_PROBLEMS} more problems"))
    return JSONResponse(Refused(detail=named).model_dump(), status_code=422)


def _field(location: tuple[str | int, ...]) -> str:
    """``events.3.timestamp``. An unknown field names itself, so its name is made short and printable."""
    path = ".".join(map(str, location[1:])) or "body"
    return path.encode(errors="backslashreplace").decode()[:MAX_FIELD_LENGTH]


def _message(found: dict[str, Any]) -> str:
    return _WORDS.get(found["type"], str(found["msg"]).removeprefix("Value error, "))
