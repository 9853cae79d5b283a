"""The endpoint that replays requests."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query

from serving.access.admission import needs
from serving.access.api_keys import KeyScope
from serving.json_route import UNAVAILABLE, JsonRoute, Responses
from serving.received import Id
from serving.replays.replay_reply import ReplayedRequest, reply_of
from serving.replies import Failed, Refused
from serving.service import Service

_RESPONSES: Final[Responses] = {
    404: {"model": Failed, "description": "No request of this id was logged, or not yet."},
    410: {"model": Failed, "description": "What a replay needs is past its retention."},
    422: {"model": Refused, "description": "The item's id is none."},
    **UNAVAILABLE,
}


def create_replay_router(service: Service) -> APIRouter:
    """The endpoint, over the requests of the service's home."""
    router = APIRouter(route_class=JsonRoute)

    @router.get("/v1/requests/{request_id}", responses=_RESPONSES, openapi_extra=needs(KeyScope.ADMIN))
    async def request(
        request_id: str,
        item_id: Annotated[
            Id | None, Query(description="An item of which to tell why it was not shown.")
        ] = None,
    ) -> ReplayedRequest:
        """Answer a logged request again, and say why an item was not in the slate."""
        return await asyncio.to_thread(reply_of, await service.replays.replay(request_id), item_id)

    return router
