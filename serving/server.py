"""The API as a process: one event loop, and a Redis of its own unless one is given."""

import gc
import logging
import signal
import socket
import sys
from contextlib import suppress
from typing import Final

import uvicorn

from feature_repo.errors import cannot_listen
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.settings import Settings
from serving.app import create_app
from serving.embedded_redis import embedded_redis

SWITCH_SECONDS: Final = 0.0001
"""Longest that a request waits for Python while the served log is written; 0.005 by default."""


def serve(settings: Settings) -> None:
    """Answer at ``settings.host`` and ``settings.port`` until SIGINT or SIGTERM.

    Raises InputError when the port cannot be had, LogUnavailableError when no Redis is given and none can be
    started.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s:     %(message)s")
    sys.setswitchinterval(SWITCH_SECONDS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the Redis is stopped, too
    with _listen(settings) as listening, embedded_redis(settings) as url:
        app = create_app(settings, RedisEventLog.connect(url, settings))
        _keep_what_is_loaded()
        with suppress(KeyboardInterrupt):  # uvicorn has ended in order and passes the signal on
            uvicorn.Server(uvicorn.Config(app, access_log=False)).run(sockets=[listening])


def _keep_what_is_loaded() -> None:
    """Leave out what is there by now when garbage is collected: nobody is answered while all of it is looked at."""
    gc.collect()
    gc.freeze()


def _listen(settings: Settings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port))
    except OSError as error:
        raise cannot_listen(error, settings.host, settings.port, "FRESHET_PORT") from None
