"""``freshet serve`` as a process: over a socket, with a Redis of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.conftest import free_port, wait_until
from tests.serving.conftest import click

pytestmark = pytest.mark.integration


@pytest.fixture
def environment(tiny_models: Path, tmp_path: Path) -> dict[str, str]:
    """Variables of a server of the tiny shop, on free ports."""
    shutil.copytree(tiny_models, tmp_path / "models")
    own = {"HOME": tmp_path, "PORT": free_port(), "REDIS_PORT": free_port(), "REDIS_TIMEOUT_SECONDS": 5}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRESHET_")}
    return inherited | {f"FRESHET_{name}": str(value) for name, value in own.items()}


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from training.cli import main; main()", "serve"], env=environment
    )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{environment['FRESHET_PORT']}/readyz"), seconds=60)
        yield process
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(url).status_code == 200
    return False


def test_a_served_shop_follows_a_click_and_ends_cleanly(
    environment: dict[str, str], server: "subprocess.Popen[bytes]"
) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{environment['FRESHET_PORT']}") as client:
        assert client.post("/v1/events", json={"events": [click("kettle")]}).status_code == 200
        reply = client.post("/v1/recommendations", json={"visitor_id": "vera", "k": 2}).json()
        assert [item["item_id"] for item in reply["items"]] == ["teapot", "mug"]
        too_large = client.post(
            "/v1/events", content=b" " * 10_000_000, headers={"content-type": "application/json"}
        )
        assert too_large.status_code == 413
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    home = Path(environment["FRESHET_HOME"])
    assert [path.parent.parent.name for path in home.glob("served/requests/*/*.parquet")] == ["requests"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(environment["FRESHET_REDIS_PORT"])))


def test_a_taken_port_is_one_short_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(environment["FRESHET_PORT"]))) as other:
        done = subprocess.run(
            [sys.executable, "-c", "from training.cli import main; main()", "serve"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        port = other.getsockname()[1]
    assert done.returncode == 1
    assert done.stderr == (
        f"freshet: port {port} of 127.0.0.1 is taken: set FRESHET_PORT to a free port, or end what listens there\n"
    )
