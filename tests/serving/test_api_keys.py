"""The file of API keys, and the servers that follow it."""

import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from feature_repo.errors import InputError
from feature_repo.memory_event_log import MemoryEventLog
from feature_repo.settings import Settings
from serving.access import api_keys
from serving.access.api_keys import (
    PREFIX,
    ApiKey,
    KeyScope,
    add_key,
    digest_of,
    keys_text,
    read_keys,
    remove_key,
)
from serving.access.live_keys import LiveKeys
from serving.app import create_app
from tests.serving.test_token_bucket import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(settings: Settings) -> Path:
    return settings.api_keys_path


def kept(path: Path) -> list[ApiKey]:
    keys = read_keys(path)
    assert keys is not None
    return keys


def test_a_secret_is_256_random_bits_and_stands_nowhere_in_the_home(path: Path) -> None:
    secrets = {add_key(path, f"key-{number}", [KeyScope.READ], None) for number in range(20)}
    assert len(secrets) == 20
    assert all(secret.startswith(PREFIX) and len(secret) == len(PREFIX) + 43 for secret in secrets)
    written = b"".join(file.read_bytes() for file in path.parent.rglob("*") if file.is_file())
    assert not any(secret.removeprefix(PREFIX).encode() in written for secret in secrets)
    assert {digest_of(secret.encode()) for secret in secrets} == {key.digest for key in kept(path)}


def test_only_their_owner_reads_the_keys_whatever_was_left_there(path: Path) -> None:
    left = path.with_name(f".{path.name}.tmp")
    left.touch(0o666)
    left.chmod(0o666)
    before = os.umask(0)
    try:
        add_key(path, "shop", [KeyScope.READ], None)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_come_and_go_by_name(path: Path) -> None:
    assert read_keys(path) is None
    add_key(path, "shop", [KeyScope.WRITE, KeyScope.READ, KeyScope.READ], 2.5)
    add_key(path, "prometheus", [KeyScope.METRICS], None)
    assert [(key.name, key.scopes, key.per_second) for key in kept(path)] == [
        ("shop", ("read", "write"), 2.5),
        ("prometheus", ("metrics",), None),
    ]
    day = f"{kept(path)[0].created:%Y-%m-%d}"
    assert keys_text(kept(path)).splitlines() == [
        f"shop        {day}    2.5 a second  read, write",
        f"prometheus  {day}        no limit  metrics",
    ]
    assert remove_key(path, "shop") == 1
    assert remove_key(path, "prometheus") == 0
    assert kept(path) == []


@pytest.mark.parametrize(
    ("name", "per_second", "says"),
    [
        ("taken", None, "there is an API key taken already"),
        ("two words", None, "name of the API key 'two words'"),
        ("", None, "name of the API key ''"),
        ("slow", 0.0, "per_second of the API key 'slow'"),
        ("fast", float("inf"), "per_second of the API key 'fast'"),
    ],
)
def test_a_key_that_cannot_be_made_leaves_the_file_as_it_is(
    path: Path, name: str, per_second: float | None, says: str
) -> None:
    add_key(path, "taken", [KeyScope.READ], None)
    before = path.read_bytes()
    with pytest.raises(InputError, match=says):
        add_key(path, name, [KeyScope.READ], per_second)
    assert path.read_bytes() == before


def test_a_key_may_do_something(path: Path) -> None:
    with pytest.raises(InputError, match="scopes of the API key 'shop'"):
        add_key(path, "shop", [], None)


def test_what_is_not_there_cannot_be_removed(path: Path) -> None:
    with pytest.raises(InputError, match="there is no API key shop: `freshet keys list`"):
        remove_key(path, "shop")


def test_there_are_only_so_many_keys(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "MOST_KEYS", 2)
    for name in ("one", "two"):
        add_key(path, name, [KeyScope.READ], None)
    with pytest.raises(InputError, match="there are 2 API keys, the most there may be"):
        add_key(path, "three", [KeyScope.READ], None)


def test_keys_that_are_made_at_the_same_time_are_all_kept(path: Path) -> None:
    names = {f"key-{number}" for number in range(40)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: add_key(path, name, [KeyScope.READ], None), names))
    assert {key.name for key in kept(path)} == names


BROKEN = [
    b"",
    b"{",
    b"[]",
    b'{"keys": 1}',
    b'{"keys": [{"name": "shop"}]}',
    b'{"keys": [], "open": true}',
    b"\xff",
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_server_does_not_start_on_a_broken_file(settings: Settings, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no list of API keys"):
        create_app(settings, MemoryEventLog(settings))


@pytest.mark.parametrize("content", BROKEN)
async def test_a_running_server_keeps_its_keys_while_the_file_is_broken(
    settings: Settings, path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    secret = add_key(path, "shop", [KeyScope.READ], None).encode()
    keys = LiveKeys(settings)
    good = path.read_bytes()
    path.write_bytes(content)
    for _ in range(3):
        await keys.look()
    assert keys.find(secret)
    assert not keys.open
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    path.unlink()
    path.write_bytes(good)
    await keys.look()
    assert keys.find(secret)


async def test_an_open_server_lets_nobody_in_when_it_cannot_read_the_first_key(
    settings: Settings, path: Path
) -> None:
    keys = LiveKeys(settings)
    assert keys.open
    path.mkdir()  # unreadable to root as well
    await keys.look()
    assert not keys.open


async def test_without_keys_the_api_is_open_and_the_log_says_so_once(
    settings: Settings, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = LiveKeys(settings)
    for _ in range(3):
        await keys.look()
    assert keys.open
    [told] = caplog.records
    assert told.message.startswith(
        "there are no API keys, so the API answers whoever reaches it: `freshet keys add`"
    )


async def test_after_its_last_key_the_api_is_closed_until_the_file_goes(
    settings: Settings, path: Path
) -> None:
    add_key(path, "shop", [KeyScope.READ], None)
    remove_key(path, "shop")
    keys = LiveKeys(settings)
    assert not keys.open
    path.unlink()
    await keys.look()
    assert keys.open


async def test_where_keys_are_required_none_means_closed(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    assert not LiveKeys(settings.model_copy(update={"api_keys_required": True})).open
    assert "the API refuses every request" in caplog.text


async def test_secrets_are_not_logged(
    settings: Settings, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = add_key(path, "shop", [KeyScope.READ], None)
    keys = LiveKeys(settings)
    keys.find(secret.encode())
    remove_key(path, "shop")
    await keys.look()
    assert caplog.records
    assert secret.removeprefix(PREFIX) not in caplog.text


async def test_the_bucket_of_a_key_outlives_a_change_of_other_keys(settings: Settings, path: Path) -> None:
    clock = Clock()
    secret = add_key(path, "shop", [KeyScope.READ], 1).encode()
    keys = LiveKeys(settings, clock)

    def take() -> float:
        known = keys.find(secret)
        assert known is not None
        assert known.bucket is not None
        return known.bucket.take()

    assert take() == 0
    add_key(path, "other", [KeyScope.READ], 1)
    await keys.look()
    assert take() == 1
