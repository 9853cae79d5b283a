"""Asking a Redis, without patience: whoever does not answer at once is taken to be away."""

from typing import Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from feature_repo.settings import Settings

LOCAL: Final = "127.0.0.1"
PATIENCE_SECONDS: Final = 0.5


def redis_url(settings: Settings) -> str | None:
    """Where the Redis of this home is to be asked; None while Freshet's own does not run."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    return _own_url(settings) if is_redis_of_home(settings) else None


def is_redis_of_home(settings: Settings) -> bool:
    """Whether the server at ``settings.redis_port`` keeps the data of this home."""
    try:
        with connect(_own_url(settings)) as client:
            return client.config_get("dir") == {"dir": str(settings.redis_dir.absolute())}
    except RedisError:
        return False


def connect(url: str) -> Redis:
    """A client that answers in text. Raises ValueError when the URL is none, RedisError when it is used in vain."""
    return Redis.from_url(
        url,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def _own_url(settings: Settings) -> str:
    return f"redis://{LOCAL}:{settings.redis_port}"
