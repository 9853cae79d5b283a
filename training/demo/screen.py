"""What a person sees while a demo runs: what is being done now, and how long each step took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape

SAID_EVERY_SECONDS: Final = 30.0
"""Where no terminal shows how a step goes on, a line says so after each of these."""


class Screen:
    """Lines on a console, below them the step that is going on. Usable from several threads."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, line: str) -> None:
        """Print a line as it is."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Show that a step goes on, and its seconds when it is done; what is yielded shows where it stands."""
        started = said = time.monotonic()
        if not self.console.is_terminal:
            self.say(f"  {name} ...")
        with self.console.status(escape(name)) as status:

            def show(where: str) -> None:
                nonlocal said
                now = time.monotonic()
                text = f"{name}: {where} ({now - started:.0f} s)"
                status.update(escape(text))
                if not self.console.is_terminal and now - said >= SAID_EVERY_SECONDS:
                    self.say(f"  {text}")
                    said = now

            yield show
        self.say(f"✓ {name}  {time.monotonic() - started:.1f} s")
