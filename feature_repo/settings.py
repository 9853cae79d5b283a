"""Every setting of a running Freshet, read once at the edge from FRESHET_* variables and passed down."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, field_serializer, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_ORIGIN: Final = re.compile(r"\*|https?://[a-z0-9.:\[\]-]+")


class Settings(BaseSettings):
    """Settings, each the field's name in capitals behind ``FRESHET_``: ``home`` is ``FRESHET_HOME``."""

    model_config = SettingsConfigDict(env_prefix="FRESHET_", frozen=True)

    home: Path = Field(Path("var"), description="Folder under which all state lives.")
    redis_url: SecretStr | None = Field(
        None,
        description="Redis to use, not a cluster: redis://[user:password@]host:port, rediss:// for TLS, or "
        "unix://PATH. Without it one is started.",
    )
    redis_port: int = Field(6390, ge=1, le=65535, description="Port of the Redis that Freshet starts itself.")
    redis_appendfsync: Literal["everysec", "always"] = Field(
        "everysec", description="When the Redis that Freshet starts itself brings its writes to disk."
    )
    redis_maxmemory_mb: int = Field(
        2048,
        ge=16,
        description="Memory, in MiB, that the Redis that Freshet starts itself takes; full, it refuses events.",
    )
    redis_timeout_seconds: float = Field(0.25, gt=0, description="Patience with Redis, per call.")

    host: str = Field(
        "127.0.0.1", description="Address the API and the metrics of `freshet stream` listen on."
    )
    port: int = Field(8000, ge=1, le=65535, description="Port the API listens on.")
    stream_metrics_port: int = Field(
        8001, ge=1, le=65535, description="Port at which `freshet stream` answers Prometheus."
    )
    airflow_port: int = Field(8080, ge=1, le=65535, description="Port of Airflow's UI and REST API.")
    airflow_task_log_port: int = Field(
        8793,
        ge=1,
        le=65535,
        description="Port at which Airflow's scheduler serves the logs of running tasks.",
    )
    airflow_trigger_log_port: int = Field(
        8794, ge=1, le=65535, description="Port at which Airflow's triggerer serves its logs."
    )
    max_body_bytes: int = Field(2 * 2**20, ge=1024, description="Largest request body; more gets 413.")
    max_events_per_request: int = Field(1000, ge=1, description="Most events in one POST /v1/events.")
    max_items_per_request: int = Field(1000, ge=1, description="Most items in one PUT or PATCH /v1/items.")
    slate_seconds: float = Field(
        0.04, gt=0, description="After so long a slate is answered with what is there by then."
    )
    max_slate_size: int = Field(100, ge=1, description="Largest k that a request may ask for.")
    max_concurrent_requests: int = Field(
        16, ge=1, description="Requests that a server process works on at once; more get 503 at once."
    )
    api_keys_required: bool = Field(
        default=False, description="Whether to refuse all requests, too, while no API key was ever made."
    )
    cors_origins: Annotated[tuple[str, ...] | None, NoDecode] = Field(
        None,
        description="Origins whose pages may ask the API: https://shop.example, separated by commas; * is any.",
    )

    log_partitions: int = Field(
        16, ge=1, description="Streams the event log is spread over. Fixed for the life of a log."
    )
    window_size: int = Field(
        64, ge=1, description="Newest events of a shopper that the session window keeps."
    )
    window_ttl_days: float = Field(
        90,
        gt=0,
        description="A window without a new event for so long expires; of shoppers met before that, no features "
        "are brought online.",
    )
    exposures_size: int = Field(200, ge=1, description="Newest shown items that are kept per shopper.")
    exposures_ttl_days: float = Field(7, gt=0, description="Exposures without a new one for so long expire.")
    dedup_hours: float = Field(24, gt=0, description="How long the log recognises an event_id it has seen.")
    link_ttl_days: float = Field(
        90, gt=0, description="A visitor's link to a user lives so long after its last use."
    )
    consumer_idle_seconds: float = Field(
        60, gt=0, description="A consumer of the log that holds entries so long is taken for dead."
    )
    deliveries_before_burial: int = Field(
        5, ge=1, description="An event that failed so often goes to the dead letters."
    )
    dead_letters_kept: int = Field(
        10_000, ge=1, description="Newest events that could not be processed, kept per partition."
    )
    event_max_ahead_seconds: float = Field(
        300, ge=0, description="Events later than now by more are refused."
    )
    event_max_age_days: float = Field(
        400, gt=0, description="Older events are refused over HTTP (not by import)."
    )

    quality_history_days: float = Field(
        28, ge=1, description="A part of the log is checked against so many days before it."
    )
    quality_min_events: int = Field(
        100, ge=1, description="A part of the log with fewer events is cleaned, but stops nothing."
    )
    quality_bot_interactions: int = Field(
        1000,
        ge=1,
        description="A shopper with more interactions on one UTC day, purchases aside, is a bot on that day.",
    )
    quality_price_factor: float = Field(
        50, gt=1, description="A price so many times above or below its item's median is absurd."
    )
    quality_max_removed_share: float = Field(
        0.3, gt=0, le=1, description="More events removed by cleaning stop a part of the log."
    )
    quality_max_unknown_share: float = Field(
        0.8, gt=0, le=1, description="More events with unknown items stop a part of the log."
    )
    quality_max_exchanged_share: float = Field(
        0.5, gt=0, le=1, description="More events that name the shopper as item stop a part of the log."
    )
    quality_max_priceless_share: float = Field(
        0.5, gt=0, le=1, description="More prices missing where there were some stop a part of the log."
    )
    quality_volume_factor: float = Field(
        5, gt=1, description="So many times more or fewer events than usual are worth a warning."
    )
    training_epochs: int = Field(
        5, ge=1, le=100, description="Most epochs of the embeddings, unless a run says."
    )
    training_examples: int = Field(
        2_000_000, ge=1000, description="Most interactions that an epoch learns from, drawn evenly from all."
    )
    training_requests: int = Field(
        20_000, ge=100, description="Most requests replayed to fit the ranker; half as many to evaluate."
    )
    training_impressions: int = Field(
        0, ge=0, description="Newest served slates with a reaction that the ranker learns from, too."
    )
    features_kept_days: float = Field(
        90,
        ge=1,
        description="Batch features of earlier moments are forgotten, except the newest of them and what an "
        "unfinished training needs.",
    )
    refresh_seconds: float = Field(
        300, ge=0, description="How often `freshet stream` refreshes the live model; 0 leaves that to you."
    )
    bundle_poll_seconds: float = Field(1, gt=0, description="How often a server looks for a new model.")
    refreshed_kept: int = Field(
        12, ge=2, description="Newest bundles that stay of those assembled between trainings."
    )
    bundles_kept: int = Field(5, ge=2, description="Newest published models that stay to roll back to.")
    candidates: int = Field(300, ge=10, description="Candidates that reach the ranker.")
    placements: Path | None = Field(
        None,
        description="YAML file of places of the shop that ask for slates, besides those shipped or in their place.",
    )
    served_log_queue: int = Field(
        10_000, ge=1, description="Served slates that may wait to be written; more are dropped and counted."
    )
    served_log_flush_seconds: float = Field(
        5, gt=0, description="A served slate is on disk after at most so long."
    )
    served_log_full_share: float = Field(
        0.01, ge=0, le=1, description="Share of requests whose features are logged for all candidates."
    )
    served_log_days: int = Field(90, ge=1, description="Days that served slates are kept.")
    replay_days: int = Field(
        7,
        ge=1,
        description="Days that what lay over the model is kept, without which no request is replayed.",
    )

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return url

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _are_origins(cls, origins: object) -> object:
        listed = [one.strip() for one in origins.split(",")] if isinstance(origins, str) else origins
        for one in listed if isinstance(listed, list) else ():
            if not _ORIGIN.fullmatch(one):
                raise ValueError(
                    f"{one!r} is no origin: write https://shop.example, without a path or a final slash"
                )
        return listed

    @field_serializer("cors_origins")
    def _as_given(self, origins: tuple[str, ...] | None) -> str | None:
        return ",".join(origins) if origins else None

    @property
    def api_keys_path(self) -> Path:
        """Who may ask the API, without their secrets; absent until the first key is made."""
        return self.home / "api_keys.json"

    @property
    def archive_dir(self) -> Path:
        """Parquet files of the event log, one folder per event date."""
        return self.home / "archive"

    @property
    def catalog_dir(self) -> Path:
        """Items and users of the shop."""
        return self.home / "catalog"

    @property
    def erasures_dir(self) -> Path:
        """Erasures of shoppers that are not done yet."""
        return self.home / "erasures"

    @property
    def imports_dir(self) -> Path:
        """Quality reports and rejected rows of imports."""
        return self.home / "imports"

    @property
    def models_dir(self) -> Path:
        """Model bundles and the name of the live one."""
        return self.home / "models"

    @property
    def served_dir(self) -> Path:
        """Served slates with their features."""
        return self.home / "served"

    @property
    def replay_dir(self) -> Path:
        """What lay over the models' items at the moments of requests."""
        return self.home / "replay"

    @property
    def runs_dir(self) -> Path:
        """TensorBoard scalars and checkpoints of trainings."""
        return self.home / "runs"

    @property
    def features_dir(self) -> Path:
        """Feast's offline store: one folder of Parquet files per feature view."""
        return self.home / "features"

    @property
    def registry_path(self) -> Path:
        """Feast's registry, an SQLite file."""
        return self.home / "registry.db"

    @property
    def quality_dir(self) -> Path:
        """Reports on the quality of the log's days."""
        return self.home / "quality"

    @property
    def airflow_dir(self) -> Path:
        """Airflow's home: its database, configuration and logs of tasks."""
        return self.home / "airflow"

    @property
    def logs_dir(self) -> Path:
        """Logs of the processes that `freshet demo` runs."""
        return self.home / "logs"

    @property
    def redis_dir(self) -> Path:
        """Data of the Redis that Freshet starts itself."""
        return self.home / "redis"
