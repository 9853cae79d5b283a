"""A demo of stand-ins: ``python -m tests.training.demo.stand_in LOGS NAME=PROGRAM ...``, each a Python program.

Says ``up`` and what it starts again; ends by SIGINT, or with the error when a process is given up.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from feature_repo.errors import FreshetError
from training.demo.processes import Process
from training.demo.supervision import supervised


@dataclass(frozen=True)
class StandIn(Process):
    """A process that runs a Python program."""

    @property
    def arguments(self) -> list[str]:
        return [sys.executable, "-c", *self.command]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(logs: str, *programs: str) -> None:
    stand_ins = [StandIn(name, (program,)) for name, _, program in (text.partition("=") for text in programs)]
    try:
        with supervised(stand_ins, os.environ, Path(logs), say) as supervision:
            say("up")
            while True:
                supervision.require_running()
                time.sleep(0.05)
    except FreshetError as error:
        say(str(error))
    except KeyboardInterrupt:
        say("ended")


if __name__ == "__main__":
    main(*sys.argv[1:])
