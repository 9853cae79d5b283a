"""The endpoints around a shopper, and those of operation: each is one call of the service or its slates."""

from typing import Annotated, Final

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import AfterValidator, Field

from serving.access.admission import OPEN, needs
from serving.access.api_keys import KeyScope
from serving.json_route import TAKES_BODY, UNAVAILABLE, JsonRoute, Responses
from serving.placements import HOME
from serving.query import DEFAULT_SLATE_SIZE
from serving.received import Id, Received, ReceivedEvent, RecommendationRequest, RerankRequest
from serving.replies import ErasureResult, EventResults, Health, Readiness, Recommendations, Refused
from serving.service import Service

NAMES_SHOPPER: Final[Responses] = {
    422: {"model": Refused, "description": "The id is none; nothing was done."},
    **UNAVAILABLE,
}


def create_router(service: Service) -> APIRouter:
    """The endpoints of the API, bounded as the service's settings say."""
    router = APIRouter(route_class=JsonRoute)
    settings = service.settings

    class ReceivedEvents(Received):
        events: Annotated[
            list[ReceivedEvent], Field(min_length=1, max_length=settings.max_events_per_request)
        ]

    class BoundedRequest(RecommendationRequest):
        placement: Annotated[Id, AfterValidator(service.slates.require_placement)] = HOME
        k: Annotated[int, Field(ge=1, le=settings.max_slate_size)] = min(
            DEFAULT_SLATE_SIZE, settings.max_slate_size
        )

    @router.post("/v1/events", responses=TAKES_BODY, openapi_extra=needs(KeyScope.WRITE))
    async def append_events(body: ReceivedEvents) -> EventResults:
        """Log events. Once this answers 200, the next slate knows of them."""
        return await service.append(body.events)

    @router.post("/v1/recommendations", responses=TAKES_BODY, openapi_extra=needs(KeyScope.READ))
    async def recommend(body: BoundedRequest) -> Recommendations:
        """Recommend items to a shopper, or to anyone."""
        return await service.slates.recommend(body)

    @router.post("/v1/rerank", responses=TAKES_BODY, openapi_extra=needs(KeyScope.READ))
    async def rerank(body: RerankRequest) -> Recommendations:
        """Order the caller's own items for a shopper."""
        return await service.slates.rerank(body)

    @router.delete("/v1/users/{user_id:path}", responses=NAMES_SHOPPER, openapi_extra=needs(KeyScope.ADMIN))
    async def erase_user(user_id: Id) -> ErasureResult:
        """Forget a user, and the visitors that were linked to it."""
        return await service.erase(user_id, None)

    @router.delete(
        "/v1/visitors/{visitor_id:path}", responses=NAMES_SHOPPER, openapi_extra=needs(KeyScope.ADMIN)
    )
    async def erase_visitor(visitor_id: Id) -> ErasureResult:
        """Forget a visitor."""
        return await service.erase(None, visitor_id)

    @router.get("/healthz", openapi_extra=OPEN)
    async def healthz() -> Health:
        """The process is alive."""
        return Health()

    @router.get(
        "/readyz", response_model=Readiness, responses={503: {"model": Readiness}}, openapi_extra=OPEN
    )
    async def readyz() -> JSONResponse:
        """A model is loaded. The event log's state is told, but does not matter: there are answers without it."""
        readiness = await service.readiness()
        return JSONResponse(readiness.model_dump(), status_code=200 if readiness.ready else 503)

    @router.get("/metrics", response_class=PlainTextResponse, openapi_extra=needs(KeyScope.METRICS))
    async def metrics() -> Response:
        """What Prometheus scrapes."""
        return Response(service.metrics.render(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router
