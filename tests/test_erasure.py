"""A shopper is erased over HTTP, and no byte of hers is found anywhere."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from redis import Redis
from typer.testing import CliRunner

from feature_repo.archive import Archive
from feature_repo.catalog import read_users
from feature_repo.erasure import ON_DISK, ONLINE, Erasure, Store
from feature_repo.errors import InputError
from feature_repo.events import to_table
from feature_repo.offline_store import SHOPPER_KEY, View, write_snapshot
from feature_repo.online_user import user_key
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import DAY, HOUR, SECOND
from feature_repo.settings import Settings
from serving.bundle_files import read_bundle, write_bundle
from serving.embedded_redis import embedded_redis
from serving.live_version import live_directories, new_refreshed_directory, read_live_bundle, set_refreshed
from tests.conftest import free_port, wait_until
from tests.feature_repo.log_events import event
from tests.serving.conftest import Api, running_api
from tests.tiny_bundle import publish, tiny_bundle
from training import cli
from training import erase as steps
from training.dataset import read_inputs
from training.erase import erase, pending
from training.imports.import_log import import_log
from training.imports.quality_report import QualityReport as ImportReport
from training.ingest import drain
from training.locks import refresh_lock, served_lock, training_lock
from training.log_report import Action, Finding, QualityReport
from training.publish import evaluation_dir

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

USER = "ursula-needle"
LINKED = "visitor-needle-linked"
ARCHIVED = "visitor-needle-archived"
NEEDLE = b"needle"
"""Part of every id of the erased person, and of nothing else."""
NOW = time.time_ns() // 1000


@dataclass(frozen=True)
class Shop:
    """A home whose Redis runs, and the files it was imported from."""

    settings: Settings
    url: str
    files: Path

    def import_files(self, *, shift: bool = False) -> ImportReport:
        return import_log(
            self.settings,
            self.files / "events.csv",
            users=self.files / "users.csv",
            shift_to_now=shift,
        )

    @asynccontextmanager
    async def api(self) -> AsyncIterator[Api]:
        async with running_api(self.settings, RedisEventLog.connect(self.url, self.settings)) as api:
            yield api

    async def drain(self) -> int:
        log = RedisEventLog.connect(self.url, self.settings)
        try:
            return await drain(log, Archive(self.settings.archive_dir), self.settings)
        finally:
            await log.aclose()

    async def erase(self, **patience: float) -> dict[Store, int]:
        return await asyncio.to_thread(erase, self.settings, **patience)


@pytest.fixture
def shop(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    quick = settings.model_copy(
        update={"served_log_flush_seconds": 0.05, "bundle_poll_seconds": 0.02, "served_log_full_share": 1.0}
    )
    with embedded_redis(quick) as url:
        yield Shop(quick, url, tmp_path_factory.mktemp("files"))


def csv_time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds // SECOND, UTC).isoformat()


def write_files(folder: Path) -> None:
    """An old log in which the person's visitor is linked, rows that name her and are rejected, and the users."""
    old = NOW - 30 * DAY
    rows = [
        ("a1", "view", USER, ARCHIVED, "mug", csv_time(old)),
        ("a2", "view", "", ARCHIVED, "lamp", csv_time(old + HOUR)),
        ("a3", "view", "other", "", "mug", csv_time(old + HOUR)),
        ("a4", "nonsense", USER, "", "mug", csv_time(old)),
    ]
    header = "event_id,event_type,user_id,visitor_id,item_id,timestamp"
    (folder / "events.csv").write_text("\n".join([header, *(",".join(row) for row in rows)]))
    (folder / "users.csv").write_text(f"user_id,consent\n{USER},true\nother,true\n")


def click(item: str, number: int, **who: str) -> dict[str, Any]:
    return {"event_type": "click", "item_id": item, "event_id": f"c{number}", **who}


async def fill_every_store(shop: Shop) -> None:
    """Have something of the person in every store there is, and of somebody else beside it."""
    settings = shop.settings
    write_files(shop.files)
    shop.import_files()
    keys = [f"u:{USER}", f"v:{LINKED}", "u:ada"]
    known = replace(tiny_bundle(), shopper_keys=np.array(keys, dtype=object))
    publish(settings.models_dir, known)
    write_bundle(known, evaluation_dir(settings.models_dir, "v1"))
    refreshed = new_refreshed_directory(settings.models_dir, "v1", "aa")
    write_bundle(known, refreshed)
    set_refreshed(settings.models_dir, refreshed, keep=2)
    work = settings.runs_dir / "run" / "work"
    write_bundle(known, work / "judged")
    pq.write_table(to_table([event(1, user_id=USER), event(2, user_id="other")]), work / "events.parquet")
    consent = {"consent": [True] * 3, "properties": pa.nulls(3, pa.string())}
    write_snapshot(
        settings.features_dir, View.USER_PROFILE, pa.table({SHOPPER_KEY: keys, **consent}), NOW - DAY
    )
    finding = Finding("odd", 1, 1.0, Action.REMOVED, f"a1: view of mug by u:{USER}, 2025", "look")
    QualityReport(0, DAY, 2, 1, (finding,), ()).write(settings.quality_dir)
    async with shop.api() as api:
        await api.send(
            click("mug", 1, user_id=USER, visitor_id=LINKED),
            click("lamp", 2, visitor_id=LINKED),
            click("tray", 3, user_id="other"),
        )
        await api.send({**click("rug", 4, user_id=USER), "event_type": "impression"})
        await api.recommend(user_id=USER)
        await api.recommend(visitor_id="other")
        await shop.drain()
        await api.send(click("bulb", 5, user_id=USER), click("bulb", 6, user_id="other"))
        reader = api.service.log.reader("aggregates", "one")
        for partition in range(reader.partitions):  # given and not acknowledged, or buried
            for delivery in await reader.deliver(partition, 10):
                if b'"c5"' in delivery.content:
                    await reader.bury(partition, delivery, "ValueError: no")
    with Redis.from_url(shop.url) as redis:
        redis.hset(user_key(f"u:{USER}"), "feature", "1")


def files_with(needle: bytes, home: Path) -> list[str]:
    """Files whose name, bytes or, of a table, decoded cells hold the needle."""
    found = []
    for path in sorted(home.rglob("*")):
        text = str(path.relative_to(home)).encode()
        if path.is_file():
            text += path.read_bytes() + decoded(path)
        if needle in text:
            found.append(str(path.relative_to(home)))
    return found


def decoded(path: Path) -> bytes:
    if path.suffix == ".parquet":
        return repr(pq.ParquetFile(path).read().to_pylist()).encode()
    if path.suffix == ".arrow":
        return repr(pyarrow.feather.read_table(path).to_pylist()).encode()
    return b""


def keys_with(needle: bytes, url: str) -> list[bytes]:
    """Keys of Redis whose name or stored bytes hold the needle."""
    with Redis.from_url(url) as redis:
        keys: Any = redis.keys()
        return sorted(key for key in keys if needle in key + (redis.dump(key) or b""))


async def test_no_byte_of_an_erased_person_is_left_in_any_store(shop: Shop) -> None:
    await fill_every_store(shop)
    home = shop.settings.home
    before = files_with(NEEDLE, home)
    folders = {path.split("/")[0] for path in before}
    assert folders >= {
        "archive",
        "features",
        "catalog",
        "served",
        "imports",
        "runs",
        "models",
        "quality",
        "redis",
    }
    kinds = {key.split(b":")[2].split(b":")[0] for key in keys_with(NEEDLE, shop.url) if b"freshet:" in key}
    assert kinds >= {b"log", b"dead", b"window", b"shown", b"link"}

    async with shop.api() as api:
        reply = (await api.client.delete(f"/v1/users/{USER}")).json()
        assert set(reply["removed"]) == {store.value for store in ONLINE}
        assert all(reply["removed"].values()), reply
        assert reply["pending"] == [store.value for store in ON_DISK]
        assert keys_with(LINKED.encode(), shop.url) == []
        removed = await shop.erase()
    assert {store for store in ON_DISK if not removed[store]} == set()
    assert keys_with(NEEDLE, shop.url) == []
    assert files_with(NEEDLE, home) == []
    assert pending(shop.settings).all() == []

    left = Archive(shop.settings.archive_dir).read()
    assert sorted(left["event_id"].to_pylist()) == ["a3", "c3"]
    assert read_users(shop.settings.catalog_dir)["user_id"].to_pylist() == ["other"]
    assert list(read_live_bundle(shop.settings.models_dir).shopper_keys) == ["", "", "u:ada"]
    assert live_directories(shop.settings.models_dir) == [shop.settings.models_dir / "v1"]
    read_bundle(evaluation_dir(shop.settings.models_dir, "v1"))
    served = [pq.read_table(path) for path in (shop.settings.served_dir / "requests").rglob("*.parquet")]
    assert pa.concat_tables(served)["visitor_id"].to_pylist() == ["other"]


async def test_importing_the_same_files_again_brings_nothing_back(shop: Shop) -> None:
    await fill_every_store(shop)
    async with shop.api() as api:
        await api.client.delete(f"/v1/users/{USER}")
        await shop.erase()
        again = await api.client.post("/v1/events", json={"events": [old_click(1), new_click(2)]})
    assert [result["verdict"] for result in again.json()["events"]] == ["erased", "accepted"]
    for shift in (False, True):
        report = shop.import_files(shift=shift)
        assert report.events is not None
        assert (report.events.erased, report.events.imported, report.events.duplicates) == (2, 0, 1)
    assert await shop.drain() > 0
    archived = Archive(shop.settings.archive_dir).read()
    theirs = [row["event_id"] for row in archived.to_pylist() if row["user_id"] == USER]
    assert theirs == ["new2"]  # what she did since
    others = [
        path for path in files_with(NEEDLE, shop.settings.home) if not path.startswith(("archive", "redis"))
    ]
    assert others == []


def old_click(number: int) -> dict[str, Any]:
    return click("mug", number, user_id=USER) | {"event_id": f"old{number}", "timestamp": NOW - HOUR}


def new_click(number: int) -> dict[str, Any]:
    return click("mug", number, user_id=USER) | {"event_id": f"new{number}"}


async def test_the_very_next_slate_knows_nothing_of_an_erased_person(shop: Shop) -> None:
    await fill_every_store(shop)
    async with shop.api() as api:
        stranger = [item["item_id"] for item in (await api.recommend(visitor_id="unknown"))["items"]]
        before = [item["item_id"] for item in (await api.recommend(user_id=USER))["items"]]
        assert before != stranger
        await api.client.delete(f"/v1/users/{USER}")
        for who in ({"user_id": USER}, {"visitor_id": LINKED}):
            reply = await api.recommend(**who)
            assert [item["item_id"] for item in reply["items"]] == stranger


async def test_no_request_of_an_erased_person_is_replayed_and_those_of_others_are(shop: Shop) -> None:
    publish(shop.settings.models_dir, tiny_bundle())
    async with shop.api() as api:
        await api.send(click("mug", 1, user_id=USER, visitor_id=LINKED), click("tray", 2, user_id="other"))
        told = [await api.recommend(**who) for who in ({"visitor_id": LINKED}, {"user_id": "other"})]
        hers, others = (f"/v1/requests/{reply['request_id']}" for reply in told)
        await asyncio.to_thread(
            wait_until, lambda: len(list(shop.settings.served_dir.rglob("*.parquet"))) > 1
        )
        api.service.slates.served_log._flush()
        assert (await api.client.get(hers)).json()["same"]
        await api.client.delete(f"/v1/users/{USER}")
        assert (await api.client.get(hers)).status_code == 404
        await shop.erase()
        gone = await api.client.get(hers)
        assert (gone.status_code, "erased" in gone.json()["detail"]) == (404, True)
        assert (await api.client.get(others)).json()["same"]


async def test_an_acknowledged_erasure_outlives_a_kill_at_any_step(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill_every_store(shop)
    async with shop.api() as api:
        await api.client.delete(f"/v1/users/{USER}")
    events, _ = read_inputs(shop.settings)  # not even a training that comes first learns of her
    assert {USER, None} & set(events["user_id"].to_pylist()) == set()
    for store in [*steps._ON_DISK, None]:
        with monkeypatch.context() as patch:
            if store is None:
                patch.setattr(steps, "_rewrite_append_only_file", killed)
            else:
                patch.setattr(steps, "_ON_DISK", steps._ON_DISK | {store: killed})
            with pytest.raises(Killed):
                await shop.erase()
        assert len(pending(shop.settings).all()) == 1
    await shop.erase()
    assert (keys_with(NEEDLE, shop.url), files_with(NEEDLE, shop.settings.home)) == ([], [])


class Killed(BaseException):
    """The end of a process."""


def killed(*_: object) -> int:
    raise Killed


async def test_a_redis_that_is_away_postpones_an_erasure_and_a_training_holds_it_up(shop: Shop) -> None:
    await fill_every_store(shop)
    away = shop.settings.model_copy(update={"redis_timeout_seconds": 0.2})
    log = RedisEventLog.connect("redis://127.0.0.1:1", away)
    async with running_api(away, log) as api:
        assert (await api.client.delete(f"/v1/users/{USER}")).status_code == 503
    with training_lock(shop.settings), pytest.raises(InputError, match="another training"):
        await shop.erase(patience=0)
    with refresh_lock(shop.settings, 0), pytest.raises(InputError, match="a refresh"):
        await shop.erase(patience=0)
    with served_lock(shop.settings, 0), pytest.raises(InputError, match="the served log"):
        await shop.erase(patience=0)
    await shop.erase()
    assert (keys_with(NEEDLE, shop.url), files_with(NEEDLE, shop.settings.home)) == ([], [])


async def test_visitors_that_the_server_finds_while_an_erasure_waits_are_forgotten_with_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(shop.files)
    shop.import_files()
    asked = Erasure("other", frozenset(), NOW)
    pending(shop.settings).put(asked)
    found = asked.with_visitors([ARCHIVED])  # which no event ties to this user
    monkeypatch.setattr(steps, "_wait_until_settled", lambda *_: pending(shop.settings).put(found))
    await shop.erase()
    assert len(Archive(shop.settings.archive_dir)) == 0
    assert pending(shop.settings).all() == []


async def test_unknown_shoppers_and_odd_ids_are_answered(shop: Shop) -> None:
    publish(shop.settings.models_dir, tiny_bundle())
    async with shop.api() as api:
        for path in ("/v1/users/nobody", "/v1/visitors/a%2Fb", "/v1/users/%F0%9F%9B%92"):
            reply = await api.client.delete(path)
            assert (reply.status_code, set(reply.json()["removed"].values())) == (200, {0})
        for path in ("/v1/users/a%00b", f"/v1/visitors/{'x' * 129}"):
            reply = await api.client.delete(path)
            assert reply.status_code == 422
    removed = await shop.erase()
    assert not any(removed.values())
    assert await shop.erase() == {}


async def test_the_command_says_what_it_removed_and_then_that_nothing_is_pending(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "read_settings", lambda: shop.settings)
    publish(shop.settings.models_dir, tiny_bundle())
    async with shop.api() as api:
        await api.send(click("mug", 1, user_id=USER))
        await shop.drain()
        await api.client.delete(f"/v1/users/{USER}")
    first = await asyncio.to_thread(CliRunner().invoke, cli.app, ["erase"])
    second = await asyncio.to_thread(CliRunner().invoke, cli.app, ["erase"])
    assert (first.exit_code, second.output) == (0, "nothing is pending\n")
    assert "        1  archive\n" in first.output
    assert "needle" not in first.output


async def test_the_stream_carries_out_erasures_by_itself(shop: Shop) -> None:
    publish(shop.settings.models_dir, tiny_bundle())
    async with shop.api() as api:
        await api.send(click("mug", 1, user_id=USER))
        await shop.drain()
        await api.client.delete(f"/v1/users/{USER}")
    environment = {
        **os.environ,
        "FRESHET_HOME": str(shop.settings.home),
        "FRESHET_REDIS_URL": shop.url,
        "FRESHET_STREAM_METRICS_PORT": str(free_port()),
        "FRESHET_SERVED_LOG_FLUSH_SECONDS": "0.05",
    }
    command = [sys.executable, "-c", "from training.cli import main; main()", "stream"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        await asyncio.to_thread(wait_until, lambda: not pending(shop.settings).all(), 60)
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert len(Archive(shop.settings.archive_dir)) == 0
    assert "erasures done: 1" in said
    assert "needle" not in said
