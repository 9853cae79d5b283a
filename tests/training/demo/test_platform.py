"""What is looked at before anything is started."""

import os
import signal
import socket
from io import StringIO
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from feature_repo.errors import InputError
from feature_repo.settings import Settings
from serving.access.api_keys import KeyScope, add_key
from tests.conftest import free_port
from training.demo import platform
from training.demo.airflow_api import Airflow
from training.demo.home_lock import sole_demo
from training.demo.platform import Platform, require_free_ports, require_open_api, running_platform
from training.demo.processes import Port, Process
from training.demo.screen import Screen
from training.demo.shops import Shop, find_shop
from training.demo.supervision import ProcessFailedError, Supervision


def test_a_taken_port_names_the_process_that_needs_it_and_the_setting_that_moves_it() -> None:
    free = Process("api", (), (Port(free_port(), "FRESHET_PORT"),))
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        wanted = [free, Process("airflow-api-server", (), (Port(number, "FRESHET_AIRFLOW_PORT"),))]
        with pytest.raises(InputError) as refused:
            require_free_ports(wanted)
    assert str(refused.value) == (
        f"port {number} is taken, and airflow-api-server needs it: end what listens there, or set "
        "FRESHET_AIRFLOW_PORT to a free port"
    )
    require_free_ports(wanted)


def test_each_taken_port_is_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        numbers = [server.getsockname()[1] for server in (one, other)]
        wanted = [Process("api", (), tuple(Port(number, "FRESHET_PORT") for number in numbers))]
        with pytest.raises(InputError) as refused:
            require_free_ports(wanted)
    assert [line.split(" is taken")[0] for line in str(refused.value).splitlines()] == [
        f"port {number}" for number in numbers
    ]


def test_a_home_whose_api_asks_for_keys_gets_no_demo(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    refusal = "asks for keys, and the demo's shopper has none: set FRESHET_HOME"
    require_open_api(settings)
    with pytest.raises(InputError, match=refusal):
        require_open_api(Settings(home=tmp_path, api_keys_required=True))
    add_key(settings.api_keys_path, "shop", [KeyScope.READ], None)
    with pytest.raises(InputError, match=refusal):
        require_open_api(settings)


def test_a_home_has_one_demo_and_the_next_may_follow_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with sole_demo(home):
        with pytest.raises(InputError) as refused, sole_demo(home):
            pass
        with sole_demo(tmp_path / "other"):
            pass
    assert str(refused.value) == (
        f"the demo of {home} already runs (process {os.getpid()}): stop it with Ctrl-C, or set FRESHET_HOME"
    )
    with sole_demo(home):
        pass


def test_a_second_demo_is_refused_before_it_looks_at_ports_or_writes(settings: Settings) -> None:
    shop = Shop(settings, (("no-such-command",),))
    endings = [signal.getsignal(ending) for ending in (signal.SIGTERM, signal.SIGHUP)]
    try:
        with sole_demo(settings.home), socket.create_server(("127.0.0.1", settings.port)):
            before = sorted(settings.home.rglob("*"))
            with pytest.raises(InputError, match="already runs"), running_platform(shop, Screen(Console())):
                pass
            assert sorted(settings.home.rglob("*")) == before
    finally:
        for ending, handler in zip((signal.SIGTERM, signal.SIGHUP), endings, strict=True):
            signal.signal(ending, handler)


def test_a_start_that_takes_too_long_names_what_is_missing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "START_SECONDS", 0.0)
    screen = Screen(Console(file=StringIO()))
    supervision = Supervision(tmp_path / "supervisord.conf", {}, screen.say)
    with Airflow(settings) as airflow, httpx.Client(base_url=f"http://127.0.0.1:{free_port()}") as api:
        starting = Platform(settings, screen, supervision, airflow, api)
        monkeypatch.setattr(airflow, "unhealthy", lambda: ["scheduler", "triggerer"])
        with pytest.raises(ProcessFailedError, match="still missing: scheduler, triggerer, api"):
            starting.wait_until_healthy()


def test_the_simulated_shop_lives_in_the_home_and_a_real_one_beside_it(
    settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "data" / "bol_clicks" / "events_train.parquet"
    log.parent.mkdir(parents=True)
    log.touch()
    assert find_shop(settings, None, None).settings.home == settings.home
    real = find_shop(settings, "bol_clicks", tmp_path / "data")
    assert real.settings.home == settings.home / "bol_clicks"
    assert str(log) in real.commands[0]


def test_a_shop_that_cannot_be_had_says_what_is_missing(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no shop 'corner'"):
        find_shop(settings, "corner", tmp_path)
    with pytest.raises(InputError, match="FRESHET_DATA is not set"):
        find_shop(settings, "bol_clicks", None)
    with pytest.raises(InputError, match=r"bol_clicks/events_train\.parquet is missing"):
        find_shop(settings, "bol_clicks", tmp_path)
