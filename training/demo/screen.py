"""What a person sees while a demo runs: what is being done now, and how long each step took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


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
        started = time.monotonic()
        if not self.console.is_terminal:
            self.say(f"  {name} ...")
        with self.console.status(escape(name)) as status:

            def show(where: str) -> None:
                status.update(f"{escape(name)}: {escape(where)} ({time.monotonic() - started:.0f} s)")

            yield show
        self.say(f"✓ {name}  {time.monotonic() - started:.1f} s")
