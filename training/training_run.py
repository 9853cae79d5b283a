"""A training run on disk: what it learns from, frozen, and what its steps have made so far.

    runs/<name>/plan.json       version, configuration, window and cuts of time
    runs/<name>/outcome.json    scores, verdict and reliability, which reliability.png shows
    runs/<name>/work/           frozen log and results of steps, removed when the bundle is made
    runs/<name>/<moment>/       TensorBoard scalars of the embeddings fitted up to that moment

Each file appears whole or not at all, so that a step that was killed is simply done again. The name is the
fingerprint of log, configuration and ranking features: the same training begun again goes on where it was.
"""

import shutil
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Final, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from feature_repo.durable_file import replace_file, to_parquet, written
from feature_repo.encoded_log import EncodedLog
from feature_repo.errors import InputError
from feature_repo.schema import Event
from feature_repo.settings import Settings
from feature_repo.user_tower import UserTower
from serving.calibration import Calibration
from training.assemble import Shop
from training.calibration import Reliability
from training.config import TrainingConfig
from training.dataset import Split, encode
from training.evaluation.metrics import Scores
from training.past_activity import PastActivity
from training.publish import Verdict

PLAN: Final = "plan.json"
OUTCOME: Final = "outcome.json"
WORK: Final = "work"
EVENTS: Final = "events.parquet"
ITEMS: Final = "items.parquet"
FIRST_TOWER: Final = "first_tower.npz"
CALIBRATION: Final = "calibration.npz"
RELIABILITY: Final = "reliability.png"

Arrays = TypeVar("Arrays", UserTower, Calibration)


@dataclass(frozen=True)
class Plan:
    """What a run is going to do, with how many items; times in microseconds since 1970."""

    version: str
    created: int
    config: TrainingConfig
    split: Split
    items: int


@dataclass(frozen=True)
class Outcome:
    """What a run made: version, scores by method, the gate's verdict, how reliable its probabilities are."""

    version: str
    scores: dict[str, Scores]
    verdict: Verdict
    reliability: dict[str, Reliability]

    def summary(self) -> dict[str, str]:
        """The outcome as a person reads it: a line per method."""
        scores = {f"NDCG@10 {name}": str(score.ndcg_at_10) for name, score in self.scores.items()}
        return {"version": self.version, "gate": str(self.verdict), **scores}


_PLAN = TypeAdapter(Plan)
_OUTCOME = TypeAdapter(Outcome)


class TrainingRun:
    """The folder of one run. Raises InputError where another run has taken the place of this one."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._read: _Inputs | None = None
        self.settings = settings
        self.name = name
        self.folder = settings.runs_dir / name
        self.work = self.folder / WORK
        try:
            self.plan = _PLAN.validate_json((self.folder / PLAN).read_bytes())
        except FileNotFoundError:
            raise InputError(
                f"there is no training run {name} under {settings.runs_dir}: start it again"
            ) from None
        except ValidationError:
            raise InputError(f"training run {name} is of another release: start it again") from None

    @classmethod
    def begin(cls, settings: Settings, name: str, plan: Plan, events: pa.Table, items: pa.Table) -> Self:
        """Freeze what the run learns from. What an unfinished earlier run left behind is removed."""
        folder = settings.runs_dir / name
        for work in settings.runs_dir.glob(f"*/{WORK}"):
            if work.parent != folder:
                shutil.rmtree(work)
        (folder / WORK).mkdir(parents=True, exist_ok=True)
        (folder / OUTCOME).unlink(missing_ok=True)
        replace_file(folder / WORK / EVENTS, to_parquet(events))
        replace_file(folder / WORK / ITEMS, to_parquet(items))
        replace_file(folder / PLAN, _PLAN.dump_json(plan))
        return cls(settings, name)

    @property
    def _inputs(self) -> "_Inputs":
        """Read once, and again where an erasure has changed them since."""
        state = written(self.work / EVENTS)
        if state is None:
            raise InputError(
                f"training run {self.name} has ended or another one took its place: start it again"
            )
        if self._read is None or self._read.state != state:
            events, items = (pq.read_table(self.work / file) for file in (EVENTS, ITEMS))
            self._read = _Inputs(state, *encode(events, items))
        if len(self._read.log.item_ids) != self.plan.items:  # codes are by item, and models learned by codes
            raise InputError(
                f"an erasure took the last trace of an item out of training run {self.name}: start it again"
            )
        return self._read

    @property
    def shop(self) -> Shop:
        """The shop's items when the run began."""
        return self._inputs.shop

    @property
    def log(self) -> EncodedLog:
        """The log when the run began, but for what was erased since."""
        return self._inputs.log

    @property
    def activity(self) -> PastActivity:
        """What happened to the items, by time."""
        return self._inputs.activity

    def reactions(self) -> pa.Table:
        """Events of the log that name the request whose slate they came from."""
        return pq.read_table(self.work / EVENTS, filters=pc.is_valid(pc.field(Event.REQUEST)))

    @property
    def judged(self) -> Path:
        """Folder of the bundle that knows nothing of the test part."""
        return self.work / "judged"

    def first_tower(self) -> UserTower | None:
        """The tower of the oldest part, None before it is fitted."""
        path = self.work / FIRST_TOWER
        return _read_arrays(path, UserTower) if path.exists() else None

    def keep_first_tower(self, tower: UserTower) -> None:
        """Leave the tower of the oldest part to the later steps."""
        _write_arrays(self.work / FIRST_TOWER, tower)

    @property
    def calibration(self) -> Calibration:
        """The curves that the evaluation found."""
        return _read_arrays(self.work / CALIBRATION, Calibration)

    def keep_calibration(self, calibration: Calibration) -> None:
        """Leave the curves that the evaluation found to the later steps."""
        _write_arrays(self.work / CALIBRATION, calibration)

    def encoder_weights(self, until: int) -> Path:
        """File of the session encoder fitted on the events before ``until`` (microseconds)."""
        return self.work / f"encoder-{until}.pt"

    def scalars(self, until: int) -> Path:
        """Folder for TensorBoard of embeddings fitted on the events before ``until`` (microseconds)."""
        return self.folder / datetime.fromtimestamp(until / 1e6, UTC).strftime("%Y%m%dT%H%M%S")

    @property
    def outcome(self) -> Outcome:
        """What the evaluation found. Raises InputError before it."""
        try:
            return _OUTCOME.validate_json((self.folder / OUTCOME).read_bytes())
        except FileNotFoundError:
            raise InputError(f"training run {self.name} has not been evaluated yet") from None

    def keep_outcome(self, outcome: Outcome) -> None:
        """Keep what the evaluation found."""
        replace_file(self.folder / OUTCOME, _OUTCOME.dump_json(outcome, indent=2))

    def remove_work(self) -> None:
        """Remove what only the steps up to the bundle need."""
        shutil.rmtree(self.work, ignore_errors=True)


@dataclass(frozen=True)
class _Inputs:
    """What a run learns from, as it was read when its file of events was in this state."""

    state: tuple[int, int]
    shop: Shop
    log: EncodedLog

    @cached_property
    def activity(self) -> PastActivity:
        return PastActivity.of(self.log)


def unfinished_plans(settings: Settings) -> list[Plan]:
    """What the runs of a home are going to do that may still go on."""
    plans = []
    for work in settings.runs_dir.glob(f"*/{WORK}"):
        with suppress(InputError):  # what never began, or is of another release, cannot go on
            plans.append(TrainingRun(settings, work.parent.name).plan)
    return plans


def _write_arrays(path: Path, arrays: UserTower | Calibration) -> None:
    content = BytesIO()
    np.savez(content, **{field.name: getattr(arrays, field.name) for field in fields(arrays)})
    replace_file(path, content.getvalue())


def _read_arrays(path: Path, kind: type[Arrays]) -> Arrays:
    with np.load(path) as arrays:
        return kind(*(arrays[field.name] for field in fields(kind)))
