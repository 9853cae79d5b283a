"""The Redis that Freshet starts itself."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from feature_repo.errors import LogUnavailableError
from feature_repo.settings import Settings
from serving import embedded_redis as module
from serving.embedded_redis import embedded_redis, run_redis, server_binary
from tests.conftest import free_port, wait_until

ONLY_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a child that its parent died"
)


def test_a_redis_that_is_given_is_used_and_none_started(tmp_path: Path) -> None:
    given = Settings(home=tmp_path / "home", redis_url=SecretStr("redis://elsewhere:1"))
    with embedded_redis(given) as url:
        assert url == "redis://elsewhere:1"
    assert not given.home.exists()


def test_without_the_wheel_a_server_on_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = tmp_path / "redis-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server_binary() == server


def test_without_any_server_it_says_what_to_do(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LogUnavailableError, match="FRESHET_REDIS_URL"), embedded_redis(settings):
        pass


def entered(settings: Settings) -> "subprocess.Popen[str]":
    """A process that uses the Redis of a home until its standard input ends; it says the address."""
    program = (
        "import sys\n"
        "from feature_repo.settings import Settings\n"
        "from serving.embedded_redis import embedded_redis\n"
        "with embedded_redis(Settings()) as url:\n"
        "    print(url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "FRESHET_REDIS_URL"} | {
        "FRESHET_HOME": str(settings.home),
        "FRESHET_REDIS_PORT": str(settings.redis_port),
    }
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.integration
class TestStarted:
    def test_it_is_durable_private_and_refuses_rather_than_forgets(self, settings: Settings) -> None:
        with embedded_redis(settings) as url, Redis.from_url(url) as client:
            assert {
                name: client.config_get(name)[name]
                for name in (
                    "bind",
                    "appendonly",
                    "appendfsync",
                    "maxmemory",
                    "maxmemory-policy",
                    "dir",
                    "save",
                )
            } == {
                "bind": "127.0.0.1",
                "appendonly": "yes",
                "appendfsync": "everysec",
                "maxmemory": str(settings.redis_maxmemory_mb << 20),
                "maxmemory-policy": "noeviction",
                "dir": str(settings.redis_dir),
                "save": "",
            }

    def test_it_syncs_every_write_when_it_is_told_to(self, settings: Settings) -> None:
        careful = settings.model_copy(update={"redis_appendfsync": "always"})
        with embedded_redis(careful) as url, Redis.from_url(url) as client:
            assert client.config_get("appendfsync") == {"appendfsync": "always"}

    def test_it_ends_with_its_context_and_its_data_comes_back(self, settings: Settings) -> None:
        with embedded_redis(settings) as url, Redis.from_url(url) as client:
            client.set("kept", "yes")
        with pytest.raises(RedisConnectionError):
            Redis.from_url(url).ping()
        with embedded_redis(settings) as url, Redis.from_url(url) as client:
            assert client.get("kept") == b"yes"

    def test_a_relative_home_works(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(settings.home)
        with embedded_redis(settings.model_copy(update={"home": Path("var")})) as url:
            Redis.from_url(url).set("a", "b")
        assert (settings.home / "var" / "redis" / "appendonlydir").is_dir()

    def test_a_port_that_is_taken_names_the_setting(self, settings: Settings) -> None:
        taken = f"port {settings.redis_port} is taken.*FRESHET_REDIS_PORT"
        with (
            socket.create_server(("127.0.0.1", settings.redis_port)),
            pytest.raises(LogUnavailableError, match=taken),
            embedded_redis(settings),
        ):
            pass

    def test_another_redis_at_the_port_is_not_mistaken_for_ours(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        elsewhere = settings.model_copy(update={"home": tmp_path / "elsewhere"})
        with (
            embedded_redis(settings),
            pytest.raises(LogUnavailableError, match="is taken"),
            embedded_redis(elsewhere),
        ):
            pass

    def test_two_servers_never_share_data(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_STOP_SECONDS", 0.1)
        beside = settings.model_copy(update={"redis_port": free_port()})
        with (
            embedded_redis(settings),
            pytest.raises(LogUnavailableError, match=r"another Freshet.*FRESHET_HOME"),
            embedded_redis(beside),
        ):
            pass

    def test_a_second_process_of_the_same_home_joins_the_server_and_leaves_it_running(
        self, settings: Settings
    ) -> None:
        with embedded_redis(settings) as url, Redis.from_url(url) as client:
            with embedded_redis(settings) as joined:
                assert joined == url
            assert client.ping()

    @ONLY_LINUX
    def test_who_joined_a_server_has_one_of_its_own_when_the_other_ends(self, settings: Settings) -> None:
        with entered(settings) as other:
            assert other.stdout is not None
            url = other.stdout.readline().strip()
            with Redis.from_url(url) as client, embedded_redis(settings) as joined:
                client.set("kept", "yes")
                first = client.info("server")["process_id"]
                other.communicate()

                assert joined == url
                wait_until(lambda: client.info("server")["process_id"] != first)
                assert client.get("kept") == b"yes"
            with pytest.raises(RedisConnectionError):
                Redis.from_url(url).ping()

    @ONLY_LINUX
    def test_who_joined_a_server_has_one_of_its_own_when_that_one_is_killed(self, settings: Settings) -> None:
        with embedded_redis(settings) as url, embedded_redis(settings), Redis.from_url(url) as client:
            first = int(client.info("server")["process_id"])
            os.kill(first, signal.SIGKILL)
            wait_until(lambda: client.info("server")["process_id"] != first)

    @ONLY_LINUX
    def test_it_ends_when_its_parent_is_killed_and_can_start_at_once(self, settings: Settings) -> None:
        parent = entered(settings)
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        with Redis.from_url(url) as client:
            orphan = int(client.info("server")["process_id"])
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
        with embedded_redis(settings) as again, Redis.from_url(again) as client:
            assert again == url
            assert int(client.info("server")["process_id"]) != orphan
        wait_until(lambda: not Path(f"/proc/{orphan}").exists())


@contextmanager
def redis_command(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    script = (
        "import sys; from pathlib import Path; from feature_repo.settings import Settings;"
        "from serving.embedded_redis import run_redis;"
        "run_redis(Settings(home=Path(sys.argv[1]), redis_url=None, redis_port=int(sys.argv[2])))"
    )
    command = [sys.executable, "-c", script, str(settings.home), str(settings.redis_port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_the_redis_command_is_the_server_itself_and_others_of_its_home_join_it(settings: Settings) -> None:
    with redis_command(settings) as process, Redis(port=settings.redis_port) as client:
        wait_until(client.ping)
        assert client.info()["process_id"] == process.pid
        with embedded_redis(settings) as url, Redis.from_url(url) as joined:
            assert joined.info()["process_id"] == process.pid


def test_the_redis_command_waits_for_the_end_of_one_that_runs_and_says_so(settings: Settings) -> None:
    with embedded_redis(settings) as url, redis_command(settings) as process:
        assert process.stderr is not None
        assert b"runs already" in process.stderr.readline()
        with Redis.from_url(url) as client:
            os.kill(int(client.info()["process_id"]), signal.SIGTERM)
            wait_until(lambda: client.info()["process_id"] == process.pid)


def test_the_redis_command_says_which_port_is_taken(settings: Settings) -> None:
    with (
        socket.create_server(("127.0.0.1", settings.redis_port)),
        pytest.raises(LogUnavailableError, match=f"port {settings.redis_port} is taken"),
    ):
        run_redis(settings)
