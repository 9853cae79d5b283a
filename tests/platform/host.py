"""The platform as the demo runs it, over a small simulated shop with a model: ``python -m tests.platform.host``.

It runs until SIGTERM, and in a process of its own: whatever descends from that process ends with the platform.
"""

import time
from contextlib import suppress
from typing import Final

from rich.console import Console

from training.cli import read_settings
from training.demo.platform import running_platform
from training.demo.screen import Screen
from training.demo.shops import Shop

UP: Final = "the platform is up"
"""The line that tells that every process answers. Each DAG is paused, and none has run yet."""
_SIZE: Final = ("--users", "300", "--items", "150", "--events", "12000", "--days", "30")
_POLL_SECONDS: Final = 0.5


def main() -> None:
    """Run the platform of the environment's settings."""
    settings = read_settings()
    folder = settings.home / "simulated"
    files = [f"--{name}={folder / name}.parquet" for name in ("events", "items", "users")]
    commands = (
        ("simulate", *_SIZE, "--out", str(folder)),
        ("import", *files, "--shift-to-now"),
        ("train", "--epochs", "1"),
    )
    screen = Screen(Console())
    with suppress(KeyboardInterrupt), running_platform(Shop(settings, commands), screen) as platform:
        screen.say(UP)
        while True:
            platform.supervision.require_running()
            time.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    main()
