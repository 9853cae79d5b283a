"""What supervisord is told about the processes of the platform."""

import shlex
from collections.abc import Sequence
from configparser import ConfigParser
from io import StringIO
from pathlib import Path
from typing import Final

from feature_repo.durable_file import replace_file
from serving.embedded_redis import dying_with_parent
from training.demo.processes import Process
from training.demo.supervisord import SELF

STOP_SECONDS: Final = 10
"""A process that still runs so long after SIGTERM is killed."""

_START_SECONDS: Final = 15
"""What ends earlier has not started; it is tried again after 1, 2, 3 seconds, and then given up."""
_START_RETRIES: Final = 3
_LOG_BYTES: Final = 10 * 2**20


def log_path(folder: Path, name: str) -> Path:
    """The log of a process."""
    return folder / f"{name}.log"


def write_config(folder: Path, processes: Sequence[Process]) -> Path:
    """Write the configuration under which the processes run, into the folder of their logs.

    They start in their order. The first is stopped last: the others still write to it while they end.
    """
    config = ConfigParser(interpolation=None)
    config["supervisord"] = {
        "nodaemon": "true",
        "logfile": str(log_path(folder, "supervisord")),
        "pidfile": str(folder / "supervisord.pid"),
    }
    config["group:others"] = {"programs": ",".join(process.name for process in processes[1:])}
    for place, process in enumerate(processes):
        config[f"program:{process.name}"] = {
            "command": _command(process),
            "priority": str(place),
            "autorestart": "true",
            "startsecs": str(_START_SECONDS),
            "startretries": str(_START_RETRIES),
            "stopasgroup": "true",
            "stopwaitsecs": str(STOP_SECONDS),
            "stdout_logfile": str(log_path(folder, process.name)),
            "stdout_logfile_maxbytes": str(_LOG_BYTES),
            "stdout_logfile_backups": "1",
            "redirect_stderr": "true",
        }
    text = StringIO()
    config.write(text)
    path = folder / "supervisord.conf"
    replace_file(path, text.getvalue().encode())
    return path


def _command(process: Process) -> str:
    words = [word.replace("%", "%%") for word in process.arguments]
    return shlex.join(dying_with_parent(words, f"%(ENV_{SELF})s"))
