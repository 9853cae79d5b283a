"""The shops that a demo can run on: the simulated one, and real ones whose logs lie on this machine."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from feature_repo.errors import InputError
from feature_repo.settings import Settings

_SIZE: Final = ("--users", "3000", "--items", "1500", "--events", "80000")
"""Large enough to learn from, small enough for a demo to be up in a few minutes."""
_LIGHT: Final = {"training_epochs": 1, "training_examples": 60_000, "training_requests": 3_000}
"""A model nearly as good as the default's, in a third of the time."""
_PATIENT: Final = {"slate_seconds": 0.5}
"""Trainings and Airflow share the machine with the server: a slate is to show what it is, not that they do."""
_MAPS: Final = Path(__file__).parents[1] / "maps"
_LOGS: Final = {
    "online_retail": "transactions_train.parquet",
    "retailrocket_mb": "events_train.parquet",
    "bol_clicks": "events_train.parquet",
}


@dataclass(frozen=True)
class Shop:
    """A shop: the settings of its own home, and the commands of ``freshet`` that bring it into the archive."""

    settings: Settings
    commands: tuple[tuple[str, ...], ...]


def find_shop(settings: Settings, name: str | None, data: Path | None) -> Shop:
    """The real shop of that name, whose log lies under ``data``; the simulated one where there is no name.

    Its trainings are light and its slates patient, unless the settings say otherwise.
    Raises InputError when there is no such shop or no such file.
    """
    of_demo = {**_LIGHT, **_PATIENT}
    unsaid = {field: value for field, value in of_demo.items() if field not in settings.model_fields_set}
    settings = settings.model_copy(update=unsaid)
    return _simulated_shop(settings) if name is None else _real_shop(settings, name, data)


def _simulated_shop(settings: Settings) -> Shop:
    """A shop that needs no data; it lives in ``settings.home`` itself."""
    folder = settings.home.absolute() / "simulated"
    files = [(f"--{kind}", str(folder / f"{kind}.parquet")) for kind in ("events", "items", "users")]
    return Shop(
        settings,
        (("simulate", *_SIZE, "--out", str(folder)), ("import", *chain(*files), "--shift-to-now")),
    )


def _real_shop(settings: Settings, name: str, data: Path | None) -> Shop:
    """A shop whose log is ``data``/NAME/; it lives in ``settings.home``/NAME."""
    if name not in _LOGS:
        raise InputError(f"there is no shop {name!r} to demonstrate: {', '.join(_LOGS)}")
    if data is None:
        raise InputError(
            f"FRESHET_DATA is not set: give it the folder that holds {name}/{_LOGS[name]}, or leave out DATA"
        )
    log = data.absolute() / name / _LOGS[name]
    if not log.is_file():
        raise InputError(
            f"{log} is missing: FRESHET_DATA has to be the folder that holds {name}/{_LOGS[name]}"
        )
    command = ("import", "--events", str(log), "--map", str(_MAPS / f"{name}.yaml"), "--shift-to-now")
    return Shop(settings.model_copy(update={"home": settings.home / name}), (command,))
