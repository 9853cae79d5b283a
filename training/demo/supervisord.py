"""supervisord for one demo: ``python -m training.demo.supervisord CONFIG``.

It starts the processes again when they end. SIGTERM, or the death of the demo, stops all of them in order,
and nothing that one of them left behind outlives it.
"""

import os
import sys
from typing import Final

import psutil
from supervisor.medusa.asyncore_25 import ExitNow
from supervisor.options import ServerOptions
from supervisor.supervisord import Supervisor

from training.demo.process_tree import adopt_orphans, end_descendants, end_trees

SELF: Final = "SUPERVISORD_PID"
"""Variable by which the configuration names the process that reads it."""


def main(config: str) -> None:
    """Run supervisord in this process until SIGTERM."""
    adopt_orphans()
    os.environ[SELF] = str(os.getpid())
    options = ServerOptions()
    options.realize(["--configuration", config])
    options.first, options.test = True, False  # as supervisord's own main sets them
    try:
        _Supervisor(options).main()
    except ExitNow:
        pass
    finally:
        end_descendants()


class _Supervisor(Supervisor):  # type: ignore[misc]
    """supervisord that also ends what a process left behind when it was killed."""

    def reap(self, once: bool = False, recursionguard: int = 0) -> None:  # noqa: FBT001, FBT002
        super().reap(once, recursionguard)
        started = self.options.pidhistory
        end_trees(child for child in psutil.Process().children() if child.pid not in started)


if __name__ == "__main__":
    main(sys.argv[1])
