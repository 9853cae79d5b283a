"""Checks of the fixed ports: free, held by Freshet itself, or taken."""

import errno
import json
import socket
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Final

import psutil

from feature_repo.settings import Settings
from training.doctor.finding import Finding, Level
from training.doctor.redis_client import LOCAL, PATIENCE_SECONDS, is_redis_of_home


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
        socket.create_server((settings.host if field == "port" else LOCAL, port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Finding(Level.PROBLEM, f"{port} cannot be had ({error.strerror})", cure)
        if is_freshet(settings, port):
            return Finding(Level.OK, f"{port} is used by Freshet itself")
        return Finding(Level.PROBLEM, f"{port} is taken by {_listener(port)}", f"stop that, or {cure}")
    return Finding(Level.OK, f"{port} is free")


def _variable(field: str) -> str:
    return f"FRESHET_{field.upper()}"


def _is_api(settings: Settings, port: int) -> bool:
    connection = HTTPConnection(settings.host, port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return "event_log" in json.load(connection.getresponse())
    except (OSError, HTTPException, ValueError, TypeError):
        return False
    finally:
        connection.close()


def _is_airflow(_: Settings, port: int) -> bool:
    return "airflow" in _listener(port)  # its processes overwrite their environment: the name is all there is


def _is_redis(settings: Settings, _: int) -> bool:
    return is_redis_of_home(settings)


def _listener(port: int) -> str:
    """Command and number of the process that listens at a port."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline()).strip()
                return f"{command} (process {connection.pid})"
    except psutil.Error:
        pass  # the system does not tell, or the process is gone
    return "a process of another user"


HOLDERS: Final[Mapping[str, Callable[[Settings, int], bool]]] = {
    "port": _is_api,
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
