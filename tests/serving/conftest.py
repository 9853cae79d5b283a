"""The API over the tiny shop, in this process and without a network."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from feature_repo.errors import LogUnavailableError
from feature_repo.event_log import EventLog, Shopper, Verdict
from feature_repo.events import LoggedEvent
from feature_repo.memory_event_log import MemoryEventLog
from feature_repo.settings import Settings
from serving.app import create_app
from serving.service import Service
from tests.tiny_bundle import publish, tiny_bundle

Fields = dict[str, Any]


class BreakableLog(MemoryEventLog):
    """A log that cannot be reached while ``away``."""

    away = False

    async def append(self, events: Sequence[LoggedEvent]) -> list[Verdict]:
        self._fail_if_away()
        return await super().append(events)

    async def shopper(self, user_id: str | None, visitor_id: str | None) -> Shopper:
        self._fail_if_away()
        return await super().shopper(user_id, visitor_id)

    async def ping(self) -> None:
        self._fail_if_away()

    def _fail_if_away(self) -> None:
        if self.away:
            raise LogUnavailableError("the event log cannot be reached: start Redis")


async def logged(log: EventLog) -> list[LoggedEvent]:
    """Everything that the log holds, by event_id."""
    found = [
        delivery.event()
        for partition in range(log.partitions)
        for delivery in await log.reader("test", "test").deliver(partition, 10_000)
    ]
    return sorted(found, key=lambda event: event.event_id)


def item_ids(reply: Fields) -> list[str]:
    """Items of a slate, in its order."""
    return [item["item_id"] for item in reply["items"]]


class Api:
    """A client of one running app."""

    def __init__(self, app: FastAPI, client: AsyncClient) -> None:
        self.app = app
        self.client = client
        self.service: Service = app.state.service

    async def send(self, *events: Fields) -> Fields:
        """Post events that are expected to be taken; returns the reply."""
        response = await self.client.post("/v1/events", json={"events": events})
        assert response.status_code == 200, response.text
        return response.json()

    async def recommend(self, **request: Any) -> Fields:
        """Ask for a slate that is expected to come; returns the reply."""
        response = await self.client.post("/v1/recommendations", json=request)
        assert response.status_code == 200, response.text
        return response.json()

    async def metric(self, sample: str) -> float:
        """Value of a sample, named as it is exposed; 0 before it first appears."""
        for line in (await self.client.get("/metrics")).text.splitlines():
            if line.startswith(f"{sample} "):
                return float(line.rpartition(" ")[2])
        return 0.0


@asynccontextmanager
async def running_api(settings: Settings, log: EventLog) -> AsyncIterator[Api]:
    """The API from its start to its end."""
    app = create_app(settings, log)
    transport = ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        yield Api(app, client)


@pytest.fixture
def api_settings(settings: Settings) -> Settings:
    """Settings under which nothing has to be waited for long."""
    quick = {"bundle_poll_seconds": 0.02, "served_log_flush_seconds": 0.05, "served_log_full_share": 0.0}
    return settings.model_copy(update=quick)


@pytest.fixture
def shop_log(api_settings: Settings) -> BreakableLog:
    """The empty event log behind ``api``."""
    return BreakableLog(api_settings)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models whose live one is the tiny shop's, to be copied: making it takes longer."""
    models = tmp_path_factory.mktemp("models")
    publish(models, tiny_bundle())
    return models


@pytest.fixture
async def api(tiny_models: Path, api_settings: Settings, shop_log: BreakableLog) -> AsyncIterator[Api]:
    """The API of the tiny shop."""
    shutil.copytree(tiny_models, api_settings.models_dir)
    async with running_api(api_settings, shop_log) as running:
        yield running


def click(item_id: str, **fields: Any) -> Fields:
    """A click of visitor ``vera``, as the API takes it."""
    return {"event_type": "click", "visitor_id": "vera", "item_id": item_id, **fields}
