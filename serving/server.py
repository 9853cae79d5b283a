"""The API as a process: one event loop, and a Redis of its own unless one is given."""

import logging
import signal
import sys
from typing import Final

import uvicorn

from feature_repo.redis_event_log import RedisEventLog
from feature_repo.settings import Settings
from serving.app import create_app
from serving.embedded_redis import embedded_redis

SWITCH_SECONDS: Final = 0.0005
"""Longest that a request waits for Python while the served log is written; 0.005 by default."""


def serve(settings: Settings) -> None:
    """Answer at ``settings.host`` and ``settings.port`` until SIGINT or SIGTERM.

    Raises LogUnavailableError when no Redis is given and none can be started.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s:     %(message)s")
    sys.setswitchinterval(SWITCH_SECONDS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the Redis is stopped, too
    with embedded_redis(settings) as url:
        app = create_app(settings, RedisEventLog.connect(url, settings))
        uvicorn.run(app, host=settings.host, port=settings.port, access_log=False)
