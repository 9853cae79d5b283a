"""Where Feast's command line finds Freshet's state: under FRESHET_HOME, whatever folder it runs in.

`feast -c feature_repo apply` works in ``feature_repo/``, the other commands where they are called, and its
feature_store.yaml knows no defaults. So relative paths count from the repository here.
"""

from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL, CreateEnginePlugin

from feature_repo.settings import Settings

_REPOSITORY: Final = Path(__file__).parent.parent


def feast_settings() -> Settings:
    """The settings of the environment, ``home`` as an absolute path."""
    settings = Settings()
    return settings.model_copy(update={"home": _REPOSITORY / settings.home})


class FreshetHome(CreateEnginePlugin):
    """Makes ``sqlite:///NAME?plugin=freshet_home`` the file NAME in FRESHET_HOME, a folder it makes if need be."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        super().__init__(url, kwargs)

    def update_url(self, url: URL) -> URL:
        """The URL that names the file by its absolute path."""
        home = feast_settings().home
        home.mkdir(parents=True, exist_ok=True)
        return url.set(database=str(home / (url.database or ""))).difference_update_query(["plugin"])
