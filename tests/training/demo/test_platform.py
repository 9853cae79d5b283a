"""What is looked at before anything is started."""

import socket
from pathlib import Path

import pytest

from feature_repo.errors import InputError
from feature_repo.settings import Settings
from tests.conftest import free_port
from training.demo.platform import require_free_ports
from training.demo.processes import Port, Process
from training.demo.shops import find_shop


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
