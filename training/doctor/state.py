"""Checks of Redis and of what lies under FRESHET_HOME."""

import time
from collections.abc import Mapping
from typing import Any, Final, cast

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from feature_repo.archive import Archive
from feature_repo.redis_layout import stream_key
from feature_repo.schema import DAY
from feature_repo.settings import Settings
from serving.embedded_redis import server_binary
from training.doctor.finding import Finding, Level, date_text
from training.doctor.redis_client import connect, redis_url
from training.stream.archiving import Archiving

STALE: Final = 2 * DAY
"""A shop that sends events and ingests them daily is never so far behind, in microseconds."""
OLDEST_REDIS: Final = 7
"""The first release with functions."""


def redis(settings: Settings) -> Finding:
    """The event log's server answers, has functions, and forgets nothing."""
    url = redis_url(settings)
    if url is None:
        return Finding(Level.OK, f"does not run now; Freshet starts {server_binary()}")
    try:
        with connect(url) as client:
            info = cast("dict[str, Any]", client.info())
            faults = _faults(client, info)
    except ValueError:  # its message may hold a part of the password
        return Finding(
            Level.PROBLEM,
            "FRESHET_REDIS_URL cannot be read",
            "write redis://[user:password@]host:port, with %-codes for what is special in the password",
        )
    except RedisError as error:
        return Finding(
            Level.PROBLEM,
            f"the one of FRESHET_REDIS_URL does not answer ({error})",
            "start it, mend FRESHET_REDIS_URL, or unset it: Freshet then starts one",
        )
    if faults:
        return Finding(Level.PROBLEM, "; ".join(faults), "; ".join(faults.values()))
    release = (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    )
    return Finding(Level.OK, f"{release} runs")


def _faults(client: Redis, info: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a server, each with its cure."""
    faults = {}
    if int(info["redis_version"].partition(".")[0]) < OLDEST_REDIS:
        faults[f"{info['redis_version']} has no functions"] = f"use Redis {OLDEST_REDIS} or later, or Valkey"
    else:
        try:
            client.function_list(library="freshet*")
        except ResponseError as error:
            faults[f"functions are not allowed ({error})"] = "allow its user FUNCTION and FCALL"
    if info["maxmemory_policy"] != "noeviction":
        faults[f"maxmemory-policy is {info['maxmemory_policy']}, so events vanish when it is full"] = (
            "set `maxmemory-policy noeviction` in its configuration"
        )
    if not info["aof_enabled"]:
        faults["appendonly is off, so events vanish when it restarts"] = (
            "set `appendonly yes` in its configuration"
        )
    return faults


def backlog(settings: Settings) -> Finding:
    """What the event log holds reaches the archive in time."""
    url = redis_url(settings)
    if url is None:
        return Finding(Level.OK, "not asked: Redis does not run")
    try:
        with connect(url) as client:
            waiting = [_waiting(client, stream_key(number)) for number in range(settings.log_partitions)]
    except (RedisError, ValueError):
        return Finding(Level.OK, "not asked: Redis does not answer")
    oldest = min((arrival for _, arrival in waiting if arrival is not None), default=None)
    if oldest is None:
        return Finding(Level.OK, "every event is in the archive")
    found = f"{sum(events for events, _ in waiting):,} events wait, the oldest since {date_text(oldest)}"
    if _is_recent(oldest):
        return Finding(Level.OK, found)
    return Finding(
        Level.WARNING, found, "run `freshet ingest`, or see in Airflow why ingest_events does not run"
    )


def _waiting(client: Redis, stream: str) -> tuple[int, int | None]:
    """How many events of a stream are not in the archive, and when the oldest arrived, in microseconds."""
    groups = cast("list[Any]", client.xinfo_groups(stream)) if client.exists(stream) else []
    group = next((group for group in groups if group["name"] == Archiving.name), None)
    if group is None:
        number, taken, after = cast("int", client.xlen(stream)), None, "0"
    else:
        number = group["pending"] + (group["lag"] or 0)
        taken, after = cast("Any", client.xpending(stream, Archiving.name))["min"], group["last-delivered-id"]
    untaken = cast("list[Any]", client.xrange(stream, min=f"({after}", count=1))
    oldest = taken or (untaken[0][0] if untaken else None)
    return number, int(oldest.partition("-")[0]) * 1000 if oldest else None


def archive(settings: Settings) -> Finding:
    """There is a log to learn from, and it goes on."""
    log = Archive(settings.archive_dir)
    bounds = log.bounds() if log.root.is_dir() else None  # asking would make the folder
    if bounds is None:
        return Finding(
            Level.WARNING, "no events yet", "run `freshet import` (docs/your-shop.md) or `freshet simulate`"
        )
    found = f"{len(log):,} events, the newest of {date_text(bounds[1])}"
    if _is_recent(bounds[1]):
        return Finding(Level.OK, found)
    return Finding(
        Level.WARNING,
        found,
        "send events (docs/your-shop.md) and run `freshet ingest`; try old logs with --shift-to-now",
    )


def model(settings: Settings) -> Finding:
    """The live model is whole and fits this release."""
    from serving.live_version import current_version, read_live_bundle  # loads LightGBM, which may not load

    if current_version(settings.models_dir) is None:
        return Finding(Level.WARNING, "none is published", "run `freshet train`")
    bundle = read_live_bundle(settings.models_dir)
    end = date_text(bundle.manifest.training_end)
    return Finding(Level.OK, f"{bundle.manifest.version}: {len(bundle.item_ids):,} items, events up to {end}")


def _is_recent(moment: int) -> bool:
    return time.time_ns() // 1000 - moment <= STALE
