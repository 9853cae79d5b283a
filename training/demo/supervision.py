"""The platform's processes while a demo runs: watched, started again, and all ended with it."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from typing import Final

from feature_repo.errors import FreshetError
from serving.embedded_redis import dying_with_parent
from training.demo.process_tree import adopt_orphans, end_descendants
from training.demo.processes import Process
from training.demo.supervisord_config import STOP_SECONDS, log_path, write_config

LAST_LINES: Final = 15
_SUPERVISORD: Final = "supervisord"
_RESTART_SECONDS: Final = 1.0

_ENDED: Final = re.compile(r" exited: (\S+) \((.+); (?:not )?expected\)")
_STARTED: Final = re.compile(r" spawned: '(.+)' with pid ")
_GIVEN_UP: Final = re.compile(r" gave up: (\S+) ")


class ProcessFailedError(FreshetError):
    """A process of the platform ended and could not be started again."""


class Supervision:
    """Runs supervisord and tells in one line what it starts again."""

    def __init__(self, config: Path, variables: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._config = config
        self._log = log_path(config.parent, _SUPERVISORD)
        self._variables = dict(variables)
        self._say = say
        self._ended: dict[str, str] = {}  # why, by name, until it runs again
        self._given_up: str | None = None
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name=_SUPERVISORD, daemon=True)

    def require_running(self) -> None:
        """Raise ProcessFailedError, with the end of its log, if a process was given up."""
        if self._given_up is not None:
            folder = self._config.parent
            raise ProcessFailedError(
                f"{self._given_up} ends as soon as it is started; its log says\n"
                f"{last_lines(log_path(folder, self._given_up))}"
            )

    def start(self) -> None:
        """Start all processes."""
        adopt_orphans()
        self._thread.start()

    def stop(self) -> None:
        """Stop all processes, and kill what does not stop."""
        self._stopping.set()
        if self._process is not None:
            self._process.terminate()
        try:
            self._thread.join(3 * STOP_SECONDS)
        finally:  # also when the person is impatient
            end_descendants()

    def _run(self) -> None:
        # supervisord is told of the death of the thread that started it: this one, which waits for its end.
        while not self._stopping.is_set():
            command = [sys.executable, "-m", "training.demo.supervisord", str(self._config)]
            with self._log.open("ab") as errors:
                self._process = subprocess.Popen(  # noqa: S603
                    dying_with_parent(command, str(os.getpid())),
                    env=self._variables,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,  # not this pipe: it stops all in order also when nobody listens any more
                    text=True,
                    start_new_session=True,  # Ctrl-C is for the demo, which then stops all in order
                )
            for line in self._process.stdout or ():
                self._hear(line)
            status = self._process.wait()
            if self._stopping.is_set():
                return
            end_descendants()
            if status >= 0:  # not killed: it cannot run
                self._given_up = _SUPERVISORD
                return
            self._say(
                f"{_SUPERVISORD} ended (killed by {Signals(-status).name}); all processes started again"
            )
            self._stopping.wait(_RESTART_SECONDS)

    def _hear(self, line: str) -> None:
        if ended := _ENDED.search(line):
            self._ended[ended[1]] = ended[2].replace("terminated", "killed")
        elif (started := _STARTED.search(line)) and started[1] in self._ended:
            self._say(f"{started[1]} ended ({self._ended.pop(started[1])}); started again")
        elif given_up := _GIVEN_UP.search(line):
            self._given_up = given_up[1]


@contextmanager
def supervised(
    processes: Sequence[Process], variables: Mapping[str, str], logs: Path, say: Callable[[str], None]
) -> Iterator[Supervision]:
    """Run the processes, with the environment ``variables``, until the context ends; restarts are said.

    On Linux none of them outlives this process, however it ends. Their logs are ``logs``/NAME.log. All
    descendants of this process are taken for the platform's, and killed in the end.
    """
    supervision = Supervision(write_config(logs, processes), variables, say)
    supervision.start()
    try:
        yield supervision
    finally:
        say("all processes stop ...")
        supervision.stop()


def last_lines(path: Path, count: int = LAST_LINES) -> str:
    """The end of a log, indented."""
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join(f"  {line}" for line in lines[-count:]) or f"  (nothing in {path})"
