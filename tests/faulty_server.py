"""The server with a source that hangs for a second, each time it is asked, while a file is there."""

import time
from typing import Any, Final

from feature_repo.settings import Settings
from serving import retrieval
from serving.server import serve
from serving.sources.source import Retrieved

SOURCE: Final = "random_walk"
HANG: Final = "hang"
"""Name of the file, under FRESHET_HOME."""


def main() -> None:
    """Serve."""
    settings = Settings()
    retrievers: Any = retrieval.RETRIEVERS
    whole = retrievers[SOURCE]

    def hanging(*asked: Any) -> Retrieved:
        if (settings.home / HANG).exists():
            time.sleep(1)
        found: Retrieved = whole(*asked)
        return found

    retrievers[SOURCE] = hanging
    serve(settings)


if __name__ == "__main__":
    main()
