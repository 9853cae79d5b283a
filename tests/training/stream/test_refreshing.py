"""The stream refreshes the model now and then, in a process that ends with it."""

import asyncio
import logging
import sys
import time
from pathlib import Path

import pytest

from feature_repo.settings import Settings
from training.stream import refreshing
from training.stream.refreshing import refresh_now_and_then

pytestmark = pytest.mark.anyio


@pytest.fixture
def often(settings: Settings) -> Settings:
    return settings.model_copy(update={"refresh_seconds": 0.01})


def does(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let a refresh be this program."""
    monkeypatch.setattr(refreshing, "COMMAND", (sys.executable, "-c", program))


async def running(settings: Settings, until: Path, lines: int) -> None:
    """Refresh until a file has so many lines; then stop."""
    stopping = asyncio.Event()
    task = asyncio.create_task(refresh_now_and_then(settings, stopping))
    async with asyncio.timeout(60):
        while not until.exists() or len(until.read_text().splitlines()) < lines:
            await asyncio.sleep(0.01)
    stopping.set()
    await asyncio.wait_for(task, 20)


async def test_it_is_done_again_and_again_and_what_it_made_is_logged(
    often: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    done = tmp_path / "done"
    does(monkeypatch, f"open({str(done)!r}, 'a').write('once\\n'); print('model v1')")
    await running(often, done, 3)
    assert caplog.messages[:2] == ["refreshed: model v1"] * 2


async def test_a_failure_is_told_of_once_and_stops_nothing(
    often: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done = tmp_path / "done"
    does(monkeypatch, f"open({str(done)!r}, 'a').write('once\\n'); import sys; sys.exit('no model')")
    await running(often, done, 3)
    # asyncio warns on its own account where a process ends while it is told to.
    said = [record.message for record in caplog.records if record.name == refreshing.__name__]
    assert said == ["the model was not refreshed: no model"]


async def test_a_refresh_that_runs_ends_with_the_stream(
    often: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done = tmp_path / "done"
    does(monkeypatch, f"open({str(done)!r}, 'a').write('begun\\n'); import time; time.sleep(600)")
    begun = time.monotonic()
    await running(often, done, 1)
    assert time.monotonic() - begun < 60
    assert caplog.messages == []


async def test_it_is_left_to_the_shop_where_the_settings_say_so(settings: Settings) -> None:
    await refresh_now_and_then(settings.model_copy(update={"refresh_seconds": 0}), asyncio.Event())


async def test_the_command_is_there_and_says_what_it_lacks(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHET_HOME", str(settings.home))
    process = await asyncio.create_subprocess_exec(*refreshing.COMMAND, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"freshet: no model is published" in said
