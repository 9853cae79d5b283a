"""Which model is live: the gate before publishing, the list of versions, and the way back.

``models/HISTORY.jsonl`` keeps a line for every change of the live version. A version's twin under
``models/evaluation/`` knows nothing of its own test period, so a later challenger can be compared with it on
requests that neither was trained on.
"""

import logging
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson
from filelock import FileLock

from feature_repo.errors import BundleError, GateRefusedError, InputError
from serving.bundle import Bundle, Manifest
from serving.bundle_files import read_bundle, read_manifest
from serving.live_version import current_version, set_current
from training.evaluation.metrics import Interval

HISTORY: Final = "HISTORY.jsonl"
EVALUATION: Final = "evaluation"
LOCK: Final = ".lock"
GATE: Final = "gate"
"""Key of the verdict in a manifest's metrics."""
PUBLISHED: Final = "published"
FORCED: Final = "forced"
ROLLED_BACK: Final = "rolled back"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """The gate's finding: NDCG@10 of challenger and champion on one replay; no champion, nothing to beat."""

    challenger: Interval
    champion: Interval | None
    champion_version: str | None

    @property
    def passed(self) -> bool:
        """True unless the challenger's mean lies below the champion's lower bound."""
        return self.champion is None or self.challenger.mean >= self.champion.lower

    def __str__(self) -> str:
        if self.champion is None:
            return f"NDCG@10 {self.challenger}: passed, there is no champion to compare with"
        found = "passed" if self.passed else "refused"
        return f"NDCG@10 {self.challenger} against {self.champion} of {self.champion_version}: {found}"


@dataclass(frozen=True)
class Model:
    """A version that stands under ``models/``."""

    manifest: Manifest
    live: bool


def evaluation_dir(models: Path, version: str) -> Path:
    """Where the twin of a version stands that was fitted before its test period."""
    return models / EVALUATION / version


def champion_for(models: Path, test_start: int) -> Bundle | None:
    """The live model as it may be judged on requests from ``test_start`` (microseconds) on; None if there is none.

    Where its training has seen them, its twin is taken. One that this code can no longer read is no champion; the
    log says so.
    """
    version = current_version(models)
    if version is None:
        return None
    try:
        seen = read_manifest(models / version).training_end > test_start
        return read_bundle(evaluation_dir(models, version) if seen else models / version)
    except BundleError as error:
        logger.warning("the live model cannot be compared with, so the gate is open: %s", error)
        return None


def models_lock(models: Path) -> FileLock:
    """What is held while the live version, or the files of a finished one, are changed."""
    return FileLock(models / LOCK)


def publish(models: Path, version: str, *, keep: int, force: str | None = None) -> None:
    """Make ``version`` live if its verdict allows it.

    Of the versions that were published, and of those that were not, only the ``keep`` newest stay.

    Raises GateRefusedError when it was worse than the champion and no reason to force it is given, BundleError
    when it is damaged.
    """
    verdict = _verdict(read_bundle(models / version).manifest)
    refused = not verdict.passed and not force
    if not refused:
        _go_live(models, version, FORCED if force else PUBLISHED, force)
    _prune(models, keep)
    if refused:
        raise GateRefusedError(
            f"model {version} is worse than the one that was live ({verdict}); "
            f"to publish it all the same: freshet publish {version} --force REASON"
        )


def remove_unfinished(models: Path) -> None:
    """Remove what interrupted writes of bundles left behind. Only while nothing else writes bundles."""
    for folder in [*models.glob(".*.*/"), *(models / EVALUATION).glob(".*.*/")]:
        shutil.rmtree(folder)


def rollback(models: Path, version: str | None) -> str:
    """Make ``version``, or else the one that was live before the live one, live again; returns its name.

    Raises InputError when there is none that was live before, BundleError when it is damaged.
    """
    live = current_version(models)
    if live is None:
        raise InputError("there is no live model to roll back from: run `freshet train`")
    if version is None:
        older = [name for name in _lineage(models) if name != live]
        if not older:
            raise InputError(f"no version was live before {live}; `freshet models` lists what there is")
        version = older[-1]
    if version not in published_versions(models):
        raise InputError(
            f"model {version} was never live, so there is no way back to it: `freshet models` lists what there is, "
            f"`freshet publish {version}` takes it through the gate"
        )
    read_bundle(models / version)  # a damaged one must not go live
    _go_live(models, version, ROLLED_BACK, None)
    return version


def list_models(models: Path) -> list[Model]:
    """Every version that stands under ``models``, oldest first; the log names those that cannot be read."""
    live = current_version(models)
    found = []
    for version in _versions(models):
        try:
            found.append(Model(read_manifest(models / version), version == live))
        except BundleError as error:
            logger.warning("model %s is left out: %s", version, error)
    return found


def models_text(models: list[Model]) -> str:
    """A line per version: a star for the live one, its NDCG@10 in its own evaluation, and the gate's finding."""
    if not models:
        return "no models yet: run `freshet train`"
    lines = []
    for model in models:
        verdict = _verdict(model.manifest)
        found = "passed" if verdict.passed else "refused"
        star = "*" if model.live else " "
        lines.append(f"{star} {model.manifest.version}  NDCG@10 {verdict.challenger.mean:.4f}  {found}")
    return "\n".join(lines)


def published_versions(models: Path) -> list[str]:
    """Versions that still stand, in the order in which they were last published."""
    records = [record for record in _history(models) if record["action"] != ROLLED_BACK]
    newest_first = dict.fromkeys(record["version"] for record in reversed(records))
    return [version for version in reversed(newest_first) if (models / version).is_dir()]


def verdict_record(verdict: Verdict) -> Mapping[str, object]:
    """The verdict as a manifest keeps it."""
    return {**asdict(verdict), "passed": verdict.passed}


def _lineage(models: Path) -> list[str]:
    """The versions that led to the live one, which is the last: a rollback takes off what came after its target."""
    versions: list[str] = []
    for record in _history(models):
        version = record["version"]
        if record["action"] == ROLLED_BACK and version in versions:
            del versions[versions.index(version) + 1 :]
        else:
            versions = [*(name for name in versions if name != version), version]
    return [version for version in versions if (models / version).is_dir()]


def _history(models: Path) -> list[dict[str, str]]:
    path = models / HISTORY
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def _versions(models: Path) -> list[str]:
    return sorted(path.parent.name for path in models.glob("[!.]*/manifest.json"))


def _prune(models: Path, keep: int) -> None:
    published = published_versions(models)
    others = [version for version in _versions(models) if version not in published]
    for version in [*published[:-keep], *others[:-keep]]:
        if version != current_version(models):
            shutil.rmtree(models / version)
            shutil.rmtree(evaluation_dir(models, version), ignore_errors=True)


def _verdict(manifest: Manifest) -> Verdict:
    gate = manifest.metrics.get(GATE)
    if not isinstance(gate, dict):
        raise BundleError(f"model {manifest.version} was never judged: make one with `freshet train`")
    champion = gate["champion"]
    return Verdict(_interval(gate["challenger"]), champion and _interval(champion), gate["champion_version"])


def _interval(record: Mapping[str, float | None]) -> Interval:
    """An interval as JSON gives it back, where NaN is null."""
    return Interval(**{name: math.nan if bound is None else bound for name, bound in record.items()})


def _go_live(models: Path, version: str, action: str, reason: str | None) -> None:
    with models_lock(models):
        if current_version(models) == version == next(reversed(_lineage(models)), None):
            return
        set_current(models, version)
        with (models / HISTORY).open("ab") as history:
            record = {"time": time.time_ns() // 1000, "version": version, "action": action, "reason": reason}
            history.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
