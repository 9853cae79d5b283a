"""Feast's Redis store with two rules of its own. Of two values the one as of the later moment stays, and of the
same moment the one written last; and whoever materializes may choose the shoppers.

Feast's own store drops what comes for the same moment again, so features computed anew would never arrive.
"""

import json
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from click import ClickException
from feast import FeatureView, RepoConfig
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import make_tzaware
from pydantic import Field, StrictStr
from redis.connection import SSLConnection, parse_url
from redis.exceptions import AuthenticationError, ConnectionError, TimeoutError  # noqa: A004

from feature_repo.errors import FreshetError, InputError
from feature_repo.feast_home import feast_settings
from feature_repo.offline_store import SHOPPER_KEY
from feature_repo.online_user import microseconds, stamp_field

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""An entity, its values, the moment as of which they hold, and when they were made."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# What Feast and the library below it tell their own developers. Feast's commands import this module first.
warnings.filterwarnings("ignore", "On demand feature view is an experimental feature", RuntimeWarning)
warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)


class OnlineStoreUnavailableError(FreshetError, ClickException):
    """No Redis answers; Feast's commands print it as one line and exit 1."""


def connection_string(redis_url: str) -> str:
    """Feast's way to write a Redis URL: ``host:port,name=value,...``.

    Raises InputError for what Feast cannot reach: a Unix socket or an IPv6 address.
    """
    options = dict(parse_url(redis_url))  # type: ignore[no-untyped-call]
    host, port = options.pop("host", ""), options.pop("port", 6379)
    if not host or ":" in host:
        raise InputError(f"Feast needs a Redis with a host name or an IPv4 address, not {host or 'a socket'}")
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    # Feast splits at commas and reads each value as JSON, so a password's commas are written in JSON's escape.
    values = (f"{name}={json.dumps(value)}".replace(",", r"\u002c") for name, value in options.items())
    return ",".join([f"{host}:{port}", *values])


def _default_connection() -> str:
    settings = feast_settings()
    if settings.redis_url is None:
        return f"127.0.0.1:{settings.redis_port}"
    return connection_string(settings.redis_url.get_secret_value())


class NewestWinsOnlineStoreConfig(RedisOnlineStoreConfig):
    """Without a ``connection_string`` the store is in the Redis that the environment's settings name."""

    type: Literal["feature_repo.online_store.NewestWinsOnlineStore"]  # type: ignore[assignment]
    connection_string: StrictStr = Field(default_factory=_default_connection)
    skip_dedup: bool = True
    """Feast's own check, for which the store's stands in."""
    shoppers: frozenset[str] | None = None
    """Keys of the users to write rows of; None writes all."""


class NewestWinsOnlineStore(RedisOnlineStore):
    """Writes a row unless a later one is there. Raises OnlineStoreUnavailableError when no Redis answers."""

    def _get_client(self, online_store_config: RedisOnlineStoreConfig) -> Any:
        client = super()._get_client(online_store_config)
        try:
            client.ping()
        except AuthenticationError:  # it answers, and says itself what is wrong
            raise
        except (ConnectionError, TimeoutError) as error:
            address, *_ = online_store_config.connection_string.split(",")
            raise OnlineStoreUnavailableError(
                f"no Redis at {address}: run `freshet redis` in another shell, or set FRESHET_REDIS_URL"
            ) from error
        return client

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write the rows that are not older than what is stored; one writer per view at a time."""
        data = _chosen(data, config.online_store.shoppers)
        client = self._get_client(config.online_store)
        keys = self._generate_redis_keys_for_entities(config, [entity for entity, *_ in data])
        with client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(key, stamp_field(table.name))
            stamps = pipe.execute()
        fresh = [
            row
            for row, stamp in zip(data, stamps, strict=True)
            if stamp is None or _moment(row) >= microseconds(stamp)
        ]
        super().online_write_batch(config, table, sorted(fresh, key=_moment), progress)


def _chosen(rows: list[Row], shoppers: frozenset[str] | None) -> list[Row]:
    """The rows but those of users who are not among some."""
    if shoppers is None:
        return rows
    return [
        row
        for row in rows
        if SHOPPER_KEY not in row[0].join_keys or row[0].entity_values[0].string_val in shoppers
    ]


def _moment(row: Row) -> int:
    _, _, moment, _ = row
    return (make_tzaware(moment) - _EPOCH) // timedelta(microseconds=1)
