"""A placement of one's own, ``shelf``, in the tiny shop."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from feature_repo.settings import Settings
from tests.serving.conftest import Api, BreakableLog, running_api
from tests.tiny_bundle import publish, tiny_bundle

HOME_ONLY = "home:\n  about: anything\n  sources: everything\n"


def declared(folder: Path, text: str) -> Path:
    """A file of placements."""
    path = folder / "placements.yaml"
    path.write_text(text)
    return path


@asynccontextmanager
async def shop_with_shelf(settings: Settings, declaration: str) -> AsyncIterator[Api]:
    """The API of the tiny shop with a shelf that is declared like this."""
    path = declared(settings.home, f"{HOME_ONLY}shelf:\n  about: x\n{declaration}")
    publish(settings.models_dir, tiny_bundle())
    with_shelf = settings.model_copy(update={"placements": path})
    async with running_api(with_shelf, BreakableLog(with_shelf)) as api:
        yield api
