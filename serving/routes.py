"""The endpoints: each is one call of the service."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import AfterValidator, Field

from feature_repo.errors import InputError
from serving import strict_json
from serving.placements import HOME
from serving.query import DEFAULT_SLATE_SIZE
from serving.schemas import (
    CatalogItem,
    ErasureResult,
    EventResults,
    Failed,
    Health,
    Id,
    Readiness,
    Received,
    ReceivedEvent,
    RecommendationRequest,
    Recommendations,
    Refused,
)
from serving.service import Service

_Responses = dict[int | str, dict[str, Any]]
_UNAVAILABLE: Final[_Responses] = {503: {"model": Failed, "description": "Try again after Retry-After."}}
_NAMES_SHOPPER: Final[_Responses] = {
    422: {"model": Refused, "description": "The id is none; nothing was done."},
    **_UNAVAILABLE,
}
_TAKES_BODY: Final[_Responses] = {
    400: {"model": Failed, "description": "The body is not JSON."},
    413: {"model": Failed, "description": "The body is too large."},
    415: {"model": Failed, "description": "The body is not said to be application/json."},
    422: {"model": Refused, "description": "Fields are wrong; nothing was done."},
    **_UNAVAILABLE,
}


def create_router(service: Service) -> APIRouter:
    """The endpoints of the API, bounded as the service's settings say."""
    router = APIRouter(route_class=_JsonRoute)
    settings = service.settings

    class ReceivedEvents(Received):
        events: Annotated[
            list[ReceivedEvent], Field(min_length=1, max_length=settings.max_events_per_request)
        ]

    class BoundedRequest(RecommendationRequest):
        placement: Annotated[Id, AfterValidator(service.require_placement)] = HOME
        k: Annotated[int, Field(ge=1, le=settings.max_slate_size)] = min(
            DEFAULT_SLATE_SIZE, settings.max_slate_size
        )

    @router.post("/v1/events", responses=_TAKES_BODY)
    async def append_events(body: ReceivedEvents) -> EventResults:
        """Log events. Once this answers 200, the next slate knows of them."""
        return await service.append(body.events)

    @router.post("/v1/recommendations", responses=_TAKES_BODY)
    async def recommend(body: BoundedRequest) -> Recommendations:
        """Recommend items to a shopper, or to anyone."""
        return await service.recommend(body)

    @router.get("/v1/items/{item_id:path}", responses={404: {"model": Failed}, **_UNAVAILABLE})
    async def item(item_id: str) -> CatalogItem:
        """The item as the live model knows it."""
        found = service.item(item_id)
        if found is None:
            raise HTTPException(404, f"the catalog of model {service.model.version} has no such item")
        return found

    @router.delete("/v1/users/{user_id:path}", responses=_NAMES_SHOPPER)
    async def erase_user(user_id: Id) -> ErasureResult:
        """Forget a user, and the visitors that were linked to it."""
        return await service.erase(user_id, None)

    @router.delete("/v1/visitors/{visitor_id:path}", responses=_NAMES_SHOPPER)
    async def erase_visitor(visitor_id: Id) -> ErasureResult:
        """Forget a visitor."""
        return await service.erase(None, visitor_id)

    @router.get("/healthz")
    async def healthz() -> Health:
        """The process is alive."""
        return Health()

    @router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
    async def readyz() -> JSONResponse:
        """A model is loaded. The event log's state is told, but does not matter: there are answers without it."""
        readiness = await service.readiness()
        return JSONResponse(readiness.model_dump(), status_code=200 if readiness.ready else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """What Prometheus scrapes."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router


class _JsonRequest(Request):
    async def json(self) -> Any:
        try:
            return strict_json.parse(await self.body())
        except InputError as error:
            raise HTTPException(400, str(error)) from None


class _JsonRoute(APIRoute):
    """Reads bodies by the rules of ``strict_json`` and takes no other kind."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if self.body_field is not None and kind != "application/json":
                raise HTTPException(415, "send JSON and say so: Content-Type: application/json")
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_json
