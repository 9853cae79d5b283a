"""The processes of the platform on one machine, and the environment they share."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from feature_repo.settings import Settings
from training.demo.credentials import USER, credentials, passwords_path

LOOPBACK: Final = "127.0.0.1"
DAGS: Final = Path(__file__).parents[2] / "dags"

_HEARTBEAT_SECONDS: Final = 5
_HEARTBEAT_TIMEOUT_SECONDS: Final = 60
"""A task that ended with its scheduler is retried after about so long. An API server that starts again, or a busy
machine, keeps a task that is well from telling so for half of it."""
_ORPHANS_SECONDS: Final = 20
"""How often the scheduler looks for tasks of one that is no more."""


@dataclass(frozen=True)
class Port:
    """A port that a process listens on, and the setting that moves it."""

    number: int
    setting: str


@dataclass(frozen=True)
class Process:
    """A long-running command of the platform. Its first word is an executable of this environment."""

    name: str
    command: tuple[str, ...]
    ports: tuple[Port, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """The command with the executable's whole path."""
        return executable(*self.command)


def processes(settings: Settings) -> list[Process]:
    """All that runs, in the order in which it is started."""

    def port(field: str) -> Port:
        return Port(getattr(settings, field), f"FRESHET_{field.upper()}")

    return [
        Process("redis", ("freshet", "redis"), (port("redis_port"),)),
        Process("airflow-api-server", ("airflow", "api-server"), (port("airflow_port"),)),
        Process("airflow-scheduler", ("airflow", "scheduler"), (port("airflow_task_log_port"),)),
        Process("airflow-dag-processor", ("airflow", "dag-processor")),
        Process("airflow-triggerer", ("airflow", "triggerer"), (port("airflow_trigger_log_port"),)),
        Process("stream", ("freshet", "stream"), (port("stream_metrics_port"),)),
        Process("api", ("freshet", "serve"), (port("port"),)),
    ]


def preparation() -> Process:
    """What has to run to its end before the rest starts; doing it again changes nothing."""
    return Process("airflow-db-migrate", ("airflow", "db", "migrate"))


def executable(name: str, *arguments: str) -> list[str]:
    """A command of this Python environment, whether or not it is on PATH."""
    return [str(Path(sys.executable).with_name(name)), *arguments]


def environment(settings: Settings) -> dict[str, str]:
    """Variables that every process of the platform gets in addition to its parent's.

    Makes the credentials of the home if it has none.
    """
    return {
        **_freshet(settings),
        **_airflow(settings),
        **_secrets(settings),
        "OMP_WAIT_POLICY": "PASSIVE",  # LightGBM's threads spin otherwise
        "OPENBLAS_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",  # Airflow shows what a task writes to stderr, a progress bar too, as an error
        "NO_PROXY": LOOPBACK,  # tasks talk to the API server, never through a proxy
        "no_proxy": LOOPBACK,
    }


def airflow_url(settings: Settings) -> str:
    """Where Airflow's UI and REST API answer."""
    return f"http://{LOOPBACK}:{settings.airflow_port}"


def api_url(settings: Settings) -> str:
    """Where Freshet's API answers."""
    return f"http://{LOOPBACK}:{settings.port}"


def _freshet(settings: Settings) -> dict[str, str]:
    """The settings themselves that are given, with an absolute home and the Redis that all share."""
    shared = {"home": settings.home.absolute(), "redis_url": f"redis://{LOOPBACK}:{settings.redis_port}"}
    values = settings.model_dump() | shared
    return {f"FRESHET_{name.upper()}": str(value) for name, value in values.items() if value is not None}


def _airflow(settings: Settings) -> dict[str, str]:
    home = settings.airflow_dir.absolute()
    configuration: dict[str, dict[str, str | int]] = {
        "core": {
            "dags_folder": str(DAGS),
            "load_examples": "False",
            "dags_are_paused_at_creation": "False",
            "executor": "LocalExecutor",
            "parallelism": 4,
            "execution_api_server_url": f"{airflow_url(settings)}/execution/",
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": str(passwords_path(settings)),
        },
        "database": {"sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}"},
        "api": {
            "host": LOOPBACK,
            "port": settings.airflow_port,
            "base_url": airflow_url(settings),
            "workers": 1,
        },
        "logging": {
            "base_log_folder": str(home / "logs"),
            "worker_log_server_port": settings.airflow_task_log_port,
            "trigger_log_server_port": settings.airflow_trigger_log_port,
        },
        "dag_processor": {"parsing_processes": 1, "refresh_interval": 10, "min_file_process_interval": 30},
        # A task outlasts a restart of the API server.
        "workers": {
            "execution_api_retries": 8,
            "max_failed_heartbeats": _HEARTBEAT_TIMEOUT_SECONDS // _HEARTBEAT_SECONDS,
        },
        "scheduler": {
            "task_instance_heartbeat_sec": _HEARTBEAT_SECONDS,
            "task_instance_heartbeat_timeout": _HEARTBEAT_TIMEOUT_SECONDS,
            "task_instance_heartbeat_timeout_detection_interval": _HEARTBEAT_SECONDS,
            "scheduler_health_check_threshold": _HEARTBEAT_TIMEOUT_SECONDS,
            "orphaned_tasks_check_interval": _ORPHANS_SECONDS,
        },
    }
    variables = {
        f"AIRFLOW__{section.upper()}__{name.upper()}": str(value)
        for section, values in configuration.items()
        for name, value in values.items()
    }
    return {"AIRFLOW_HOME": str(home), **variables}


def _secrets(settings: Settings) -> dict[str, str]:
    known = credentials(settings)
    return {
        "AIRFLOW__API_AUTH__JWT_SECRET": known.jwt_secret,
        "AIRFLOW__API__SECRET_KEY": known.api_secret,
        "AIRFLOW__CORE__FERNET_KEY": known.fernet_key,
    }
