"""The endpoints of the catalog."""

from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import Field

from serving.access.admission import needs
from serving.access.api_keys import KeyScope
from serving.json_route import TAKES_BODY, UNAVAILABLE, JsonRoute
from serving.received import Received, ReceivedItem, ReceivedOffer
from serving.replies import CatalogItem, ChangedItems, Failed
from serving.service import Service


def create_item_router(service: Service) -> APIRouter:
    """The endpoints of the catalog, bounded as the service's settings say."""
    router = APIRouter(route_class=JsonRoute)
    most = service.settings.max_items_per_request

    class ReceivedItems(Received):
        items: Annotated[list[ReceivedItem], Field(min_length=1, max_length=most)]

    class ReceivedOffers(Received):
        items: Annotated[list[ReceivedOffer], Field(min_length=1, max_length=most)]

    @router.put("/v1/items", responses=TAKES_BODY, openapi_extra=needs(KeyScope.WRITE))
    async def put_items(body: ReceivedItems) -> ChangedItems:
        """Put items into the catalog, or new rows in the place of theirs."""
        return await service.change_items([item.change() for item in body.items])

    @router.patch("/v1/items", responses=TAKES_BODY, openapi_extra=needs(KeyScope.WRITE))
    async def patch_items(body: ReceivedOffers) -> ChangedItems:
        """Change prices and availability of items of the catalog."""
        return await service.change_items([offer.change() for offer in body.items])

    @router.get(
        "/v1/items/{item_id:path}",
        responses={404: {"model": Failed}, **UNAVAILABLE},
        openapi_extra=needs(KeyScope.READ),
    )
    async def item(item_id: str) -> CatalogItem:
        """The row of an item that the live model knows, with what was sent since that was loaded."""
        found = await service.item(item_id)
        if found is None:
            raise HTTPException(404, f"the catalog of model {service.model.version} has no such item")
        return found

    return router
