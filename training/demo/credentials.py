"""The demo's password and secrets: made once per home, in files that only their owner reads."""

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from feature_repo.durable_file import replace_file
from feature_repo.settings import Settings

USER: Final = "admin"
"""Who logs in to Airflow."""


@dataclass(frozen=True)
class Credentials:
    """What Airflow's processes share, and the password of USER."""

    password: str
    jwt_secret: str
    api_secret: str
    fernet_key: str


def passwords_path(settings: Settings) -> Path:
    """The file in which Airflow looks up passwords."""
    return settings.airflow_dir.absolute() / "passwords.json"


def credentials(settings: Settings) -> Credentials:
    """The credentials of ``settings.home``, made on first use."""
    passwords = _read_or_make(passwords_path(settings), lambda: {USER: secrets.token_urlsafe(12)})
    shared = _read_or_make(
        settings.airflow_dir.absolute() / "secrets.json",
        lambda: {
            "jwt_secret": secrets.token_urlsafe(64),
            "api_secret": secrets.token_urlsafe(32),
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        },
    )
    return Credentials(password=passwords[USER], **shared)


def _read_or_make(path: Path, make: Callable[[], dict[str, str]]) -> dict[str, str]:
    if not path.exists():
        replace_file(path, orjson.dumps(make()), mode=0o600)
    known: dict[str, str] = orjson.loads(path.read_bytes())
    return known
