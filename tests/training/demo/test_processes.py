"""The processes of the platform, and the environment they share."""

import json
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from feature_repo.settings import Settings
from training.demo.credentials import credentials, passwords_path
from training.demo.processes import environment, processes


def test_the_processes_listen_on_the_ports_of_the_settings() -> None:
    settings = Settings(
        redis_port=1,
        airflow_port=2,
        airflow_task_log_port=3,
        airflow_trigger_log_port=4,
        stream_metrics_port=5,
        port=6,
    )
    ports = {
        process.name: [(port.number, port.setting) for port in process.ports]
        for process in processes(settings)
    }
    assert ports == {
        "redis": [(1, "FRESHET_REDIS_PORT")],
        "airflow-api-server": [(2, "FRESHET_AIRFLOW_PORT")],
        "airflow-scheduler": [(3, "FRESHET_AIRFLOW_TASK_LOG_PORT")],
        "airflow-dag-processor": [],
        "airflow-triggerer": [(4, "FRESHET_AIRFLOW_TRIGGER_LOG_PORT")],
        "stream": [(5, "FRESHET_STREAM_METRICS_PORT")],
        "api": [(6, "FRESHET_PORT")],
    }


def test_every_command_is_an_executable_of_this_environment() -> None:
    assert [
        process.name for process in processes(Settings()) if not Path(process.arguments[0]).exists()
    ] == []


@pytest.mark.parametrize(
    "set_to",
    [
        {"candidates": 77},
        {"placements": Path("/shop/placements.yaml")},
        {"cors_origins": ("https://shop.example", "http://127.0.0.1:3000")},
    ],
)
def test_the_processes_run_under_the_very_settings_they_were_made_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, set_to: dict[str, object]
) -> None:
    given = settings.model_copy(update=set_to)
    variables = environment(given)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FRESHET_REDIS_URL")
    assert Settings() == given
    assert variables["FRESHET_REDIS_URL"] == f"redis://127.0.0.1:{settings.redis_port}"


def test_a_given_redis_is_left_alone(settings: Settings) -> None:
    given = settings.model_copy(update={"redis_url": SecretStr("redis://shop:secret@elsewhere")})
    assert "elsewhere" not in "".join(environment(given).values())


def test_airflow_listens_on_loopback_and_keeps_its_state_in_the_home(settings: Settings) -> None:
    variables = environment(settings)
    assert variables["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert variables["AIRFLOW_HOME"] == str(settings.home / "airflow")
    assert variables["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == f"sqlite:///{settings.home}/airflow/airflow.db"


def test_a_relative_home_means_the_same_folder_to_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment(Settings(home=Path("var")))["FRESHET_HOME"] == str(tmp_path / "var")


def test_the_password_and_the_secrets_outlast_a_restart_and_only_the_owner_reads_them(
    settings: Settings,
) -> None:
    first = credentials(settings)
    assert credentials(settings) == first
    assert json.loads(passwords_path(settings).read_text()) == {"admin": first.password}
    files = [path for path in settings.airflow_dir.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_two_homes_share_no_secret(tmp_path: Path) -> None:
    one, other = (credentials(Settings(home=tmp_path / name)) for name in ("one", "other"))
    assert set(vars(one).values()).isdisjoint(vars(other).values())


def test_no_command_carries_a_secret(settings: Settings) -> None:
    secrets = vars(credentials(settings)).values()
    words = [word for process in processes(settings) for word in process.arguments]
    assert [word for word in words if any(secret in word for secret in secrets)] == []
