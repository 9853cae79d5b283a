"""``freshet keys``: what a person types to let others ask the API."""

import logging
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving.access.api_keys import PREFIX, KeyScope, digest_of, read_keys
from training.cli import app


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRESHET_HOME", str(tmp_path))
    return tmp_path


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


def test_standard_output_is_the_secret_alone(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    made = keys("add", "shop", "--scope", "read", "--scope", "write", "--per-second", "50")
    secret = made.stdout.strip()
    assert secret.startswith(PREFIX)
    assert secret not in made.stderr + caplog.text
    [key] = read_keys(home / "api_keys.json") or []
    assert (key.digest, key.per_second) == (digest_of(secret.encode()), 50)
    assert key.scopes == (KeyScope.READ, KeyScope.WRITE)


def test_keys_are_listed_and_removed_by_name(home: Path) -> None:
    assert keys("list").stdout == "there are no API keys\n"
    secret = keys("add", "shop", "--scope", "read").stdout.strip()
    listed = keys("list").stdout
    assert "shop" in listed
    assert "read" in listed
    assert secret not in listed
    removed = keys("remove", "shop")
    assert removed.stdout == "API key shop is removed, 0 left\n"
    assert f"remove {home / 'api_keys.json'} to let everyone in" in removed.stderr


def test_a_key_needs_a_scope_that_exists() -> None:
    assert keys("add", "shop").exit_code == 2
    assert keys("add", "shop", "--scope", "everything").exit_code == 2
