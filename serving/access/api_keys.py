"""API keys: who may ask for what, in one small file that holds no secret.

A key's secret is 256 random bits. The file keeps its SHA-256: nobody can guess the secret from that, so it need not
be slow, and a look-up by it takes a time that tells nothing of the secret.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from filelock import FileLock
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from feature_repo.durable_file import replace_file
from feature_repo.errors import InputError

PREFIX: Final = "freshet_"
"""By which people, and programs that look for leaked secrets, know what they have found."""
MOST_KEYS: Final = 1000
"""Keys that there may be: each takes memory in every server."""
_SECRET_BYTES: Final = 32
_OWNER_ALONE: Final = 0o600


class KeyScope(StrEnum):
    """What a key may do. None contains another: who needs two is given both."""

    READ = "read"
    """Ask for slates and items."""
    WRITE = "write"
    """Send events and change items."""
    ADMIN = "admin"
    """Erase shoppers."""
    METRICS = "metrics"
    """Read what Prometheus scrapes."""


class ApiKey(BaseModel):
    """A key as it is kept; ``digest`` is its secret's SHA-256 in hexadecimal, ``per_second`` None for no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[KeyScope, ...], Field(min_length=1)]
    per_second: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    created: AwareDatetime


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: Annotated[list[ApiKey], Field(max_length=MOST_KEYS)]


def digest_of(secret: bytes) -> str:
    """SHA-256 of a secret, in hexadecimal."""
    return hashlib.sha256(secret).hexdigest()


def read_keys(path: Path) -> list[ApiKey] | None:
    """The keys of a file, oldest first; None where no key was ever made. Raises InputError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"the API keys cannot be read: {error}") from None
    try:
        return _File.model_validate_json(content).keys
    except ValidationError as error:
        wrong = error.errors()[0]
        where = ".".join(map(str, wrong["loc"])) or "the file"
        raise InputError(
            f"{path} is no list of API keys ({where}: {wrong['msg']}): take it from a backup, "
            "or remove it and make keys anew with `freshet keys add`"
        ) from None


def add_key(path: Path, name: str, scopes: Sequence[KeyScope], per_second: float | None) -> str:
    """Make a key and return its secret, which is nowhere else. Raises InputError when it cannot be made."""
    secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    try:
        added = ApiKey(
            name=name,
            digest=digest_of(secret.encode()),
            scopes=tuple(sorted(set(scopes))),
            per_second=per_second,
            created=datetime.now(UTC).replace(microsecond=0),
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        raise InputError(f"{wrong['loc'][0]} of the API key {name!r}: {wrong['msg']}") from None
    with _lock_of(path):
        keys = read_keys(path) or []
        if name in {key.name for key in keys}:
            raise InputError(
                f"there is an API key {name} already: take another name, or remove that one first"
            )
        if len(keys) == MOST_KEYS:
            raise InputError(f"there are {MOST_KEYS} API keys, the most there may be: remove one first")
        _write(path, [*keys, added])
    return secret


def remove_key(path: Path, name: str) -> int:
    """Remove a key and return how many are left. Raises InputError where there is none of this name."""
    with _lock_of(path):
        keys = read_keys(path) or []
        left = [key for key in keys if key.name != name]
        if len(left) == len(keys):
            raise InputError(f"there is no API key {name}: `freshet keys list` names those there are")
        _write(path, left)
    return len(left)


def keys_text(keys: Sequence[ApiKey]) -> str:
    """A line per key: its name, when it was made, its limit, its scopes."""
    width = max((len(key.name) for key in keys), default=0)
    return "\n".join(
        f"{key.name:<{width}}  {key.created:%Y-%m-%d}  {_limit(key):>14}  {', '.join(key.scopes)}"
        for key in keys
    )


def _limit(key: ApiKey) -> str:
    return "no limit" if key.per_second is None else f"{key.per_second:g} a second"


def _write(path: Path, keys: list[ApiKey]) -> None:
    content = _File(keys=keys).model_dump_json(indent=2)
    replace_file(path, f"{content}\n".encode(), mode=_OWNER_ALONE)


def _lock_of(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))
