"""Checks of the fixed ports: free, held by Freshet itself, or taken."""

import errno
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import psutil

from feature_repo.settings import Settings
from training.doctor.finding import Finding, Level
from training.doctor.redis_client import LOCAL, PATIENCE_SECONDS, is_redis_of_home

_HOME: Final = "FRESHET_HOME"
_OF_HOST: Final = ("port", "stream_metrics_port")
"""These listen on FRESHET_HOST, the others on loopback."""
_MOST_READ: Final = 1 << 16


def _check(field: str, is_freshet: Callable[[Settings, int], bool], settings: Settings) -> Finding:
    """Whether the port that a setting names can be had, or is held by the one it is meant for."""
    if field == "redis_port" and settings.redis_url is not None:
        return Finding(Level.OK, "is not used: FRESHET_REDIS_URL names another")
    port = getattr(settings, field)
    cure = f"set {_variable(field)} to a free port"
    twins = [_variable(name) for name in HOLDERS if name != field and getattr(settings, name) == port]
    if twins:
        return Finding(Level.PROBLEM, f"{port} is also {' and '.join(twins)}", cure)
    try:
        socket.create_server((settings.host if field in _OF_HOST else LOCAL, port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Finding(Level.PROBLEM, f"{port} cannot be had ({error.strerror})", cure)
        home = _home(port)
        if not is_freshet(settings, port):
            holder = _listener(port)
        elif home not in (None, settings.home.resolve()):
            holder = f"another Freshet, that of {home}"
        else:
            return Finding(Level.OK, f"{port} is used by Freshet itself")
        return Finding(Level.PROBLEM, f"{port} is taken by {holder}", f"stop that, or {cure}")
    return Finding(Level.OK, f"{port} is free")


def _variable(field: str) -> str:
    return f"FRESHET_{field.upper()}"


def _is_api(settings: Settings, port: int) -> bool:
    return b'"event_log"' in _answer(settings, port, "/readyz")


def _is_stream(settings: Settings, port: int) -> bool:
    return b"freshet_stream_" in _answer(settings, port, "/metrics")


def _answer(settings: Settings, port: int, path: str) -> bytes:
    """The beginning of what is answered, nothing by who does not speak HTTP."""
    connection = HTTPConnection(settings.host, port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(_MOST_READ)
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()


def _is_airflow(_: Settings, port: int) -> bool:
    return "airflow" in _listener(port)


def _is_redis(settings: Settings, _: int) -> bool:
    return is_redis_of_home(settings)


def _home(port: int) -> Path | None:
    """FRESHET_HOME of the process that listens at a port; None where it cannot be read.

    Airflow's processes overwrite their environment, so those that started them are asked, too.
    """
    with suppress(psutil.Error):
        listener = _process(port)
        if listener is None:
            return None
        if own := listener.environ():
            return Path(listener.cwd(), own.get(_HOME, Settings.model_fields["home"].default)).resolve()
        for parent in listener.parents():
            if home := parent.environ().get(_HOME):
                return Path(parent.cwd(), home).resolve()
    return None


def _listener(port: int) -> str:
    """Command and number of the process that listens at a port."""
    with suppress(psutil.Error):  # it is gone
        if process := _process(port):
            return f"{' '.join(process.cmdline()).strip()} (process {process.pid})"
    return "a process of another user"


def _process(port: int) -> psutil.Process | None:
    """The process that listens at a port, if the system tells."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            return psutil.Process(connection.pid)
    return None


HOLDERS: Final[Mapping[str, Callable[[Settings, int], bool]]] = {
    "port": _is_api,
    "stream_metrics_port": _is_stream,
    "airflow_port": _is_airflow,
    "airflow_task_log_port": _is_airflow,
    "airflow_trigger_log_port": _is_airflow,
    "redis_port": _is_redis,
}
"""Settings that are ports, and how to tell that it is Freshet that holds one."""

PORT_CHECKS: Final[Mapping[str, Callable[[Settings], Finding]]] = {
    field.replace("_", " "): partial(_check, field, is_freshet) for field, is_freshet in HOLDERS.items()
}
"""A check for each of them."""
