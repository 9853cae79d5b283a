"""The API keys that count now: follows their file, and keeps each key's rate."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from feature_repo.durable_file import written
from feature_repo.errors import InputError
from feature_repo.settings import Settings
from serving.access.api_keys import ApiKey, digest_of, read_keys
from serving.access.token_bucket import TokenBucket

KEYS_SECONDS: Final = 1.0
"""Pause between two looks at the file of API keys."""

logger = logging.getLogger(__name__)


class KnownKey(NamedTuple):
    """A key, and what it may still ask for; None where it has no limit."""

    key: ApiKey
    bucket: TokenBucket | None


class LiveKeys:
    """The keys of ``settings.api_keys_path`` as they were last seen; at first InputError if they cannot be read."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = settings.api_keys_path
        self._required = settings.api_keys_required
        self._clock = clock
        self._known: Mapping[str, KnownKey] | None = None
        self._seen = written(self._path)
        self._take(read_keys(self._path))

    @property
    def open(self) -> bool:
        """Whether everyone is let in: no key was ever made, and none is required."""
        return self._known is None and not self._required

    def find(self, secret: bytes) -> KnownKey | None:
        """The key of a secret."""
        return self._known.get(digest_of(secret)) if self._known else None

    async def look(self) -> None:
        """Take what the file holds now; while it cannot be read, the keys stay, and nobody else is let in."""
        try:
            seen = written(self._path)
            if seen == self._seen:
                return
            self._seen = seen
            self._take(read_keys(self._path))
        except (InputError, OSError) as error:
            logger.error("the API keys stay as they were: %s", error)  # noqa: TRY400  what to do is in the message
            self._known = self._known or {}

    def _take(self, keys: list[ApiKey] | None) -> None:
        if keys is None:
            self._known = None
            allowed = "refuses every request" if self._required else "answers whoever reaches it"
            logger.warning(
                "there are no API keys, so the API %s: `freshet keys add` makes one (docs/security.md)",
                allowed,
            )
        else:
            self._known = {key.digest: KnownKey(key, self._bucket(key)) for key in keys}
            logger.info("requests need one of %d API keys", len(keys))

    def _bucket(self, key: ApiKey) -> TokenBucket | None:
        known = self._known.get(key.digest) if self._known else None
        if known and known.key.per_second == key.per_second:
            return known.bucket  # as empty as it is: other keys came or went
        return None if key.per_second is None else TokenBucket(key.per_second, self._clock)
