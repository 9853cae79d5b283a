"""A training in steps, each in a process of its own, killed and done again: the model of an undisturbed one."""

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from feature_repo.arrays import Bool
from feature_repo.durable_file import drop_rows
from feature_repo.errors import InputError
from feature_repo.schema import ITEM_SCHEMA, Event
from feature_repo.settings import Settings
from serving.bundle_files import read_manifest
from serving.live_version import current_version
from tests.conftest import wait_until
from tests.training.conftest import FAST, TrainedShop
from tests.training.tiny_log import NOON, Happened, table
from training import pipeline
from training.config import TrainingConfig
from training.dataset import Split
from training.pipeline import (
    begin,
    go_live,
    judge,
    learn_embeddings,
    learn_encoder,
    learn_ranker,
    make_bundle,
)
from training.publish import evaluation_dir
from training.training_run import EVENTS, PLAN, WORK, Plan, TrainingRun

STEPS = ("learn_embeddings", "learn_encoder", "learn_ranker", "judge", "make_bundle", "go_live")
STEP = """
import sys; from pathlib import Path
from feature_repo.settings import Settings
from training import pipeline
from training.training_run import TrainingRun
getattr(pipeline, sys.argv[1])(TrainingRun(Settings(home=Path(sys.argv[2]), redis_url=None), sys.argv[3]))
"""


def started(step: str, run: TrainingRun) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", STEP, step, str(run.settings.home), run.name])


def scalars_of(run: TrainingRun) -> list[Path]:
    """Files of scalars: every training of a model begins one."""
    return list(run.folder.glob("*/events.out.tfevents.*"))


def arrays_of(model: Path) -> dict[str, str]:
    """Checksums of what a model is made of."""
    return dict(read_manifest(model).checksums)


@pytest.mark.slow
def test_steps_in_processes_killed_and_done_again_make_the_undisturbed_model(
    trained: TrainedShop, tmp_path: Path
) -> None:
    settings = trained.copied_to(tmp_path / "home")
    run = begin(settings, FAST)
    twin = evaluation_dir(settings.models_dir, run.plan.version)
    for step in STEPS:
        if step.startswith("learn") or step == "make_bundle":
            before = len(scalars_of(run))
            with started(step, run) as process:
                wait_until(lambda: len(scalars_of(run)) > before or twin.exists(), seconds=60)  # noqa: B023
                process.send_signal(signal.SIGKILL)
        with started(step, run) as process:
            assert process.wait() == 0
    assert current_version(settings.models_dir) == run.plan.version
    undisturbed = trained.settings.models_dir
    version = trained.outcome.version
    assert arrays_of(settings.models_dir / run.plan.version) == arrays_of(undisturbed / version)
    assert arrays_of(evaluation_dir(settings.models_dir, run.plan.version)) == arrays_of(
        evaluation_dir(undisturbed, version)
    )
    assert run.outcome.scores["ranked"] == trained.outcome.scores["ranked"]
    assert not run.work.exists()


@pytest.mark.slow
def test_a_finished_step_done_again_changes_nothing(trained: TrainedShop, tmp_path: Path) -> None:
    settings = trained.copied_to(tmp_path / "home")
    run = begin(settings, FAST)
    for step in (learn_embeddings, learn_encoder, learn_ranker, judge, make_bundle, make_bundle):
        step(run)
    published = go_live(run)
    history = (settings.models_dir / "HISTORY.jsonl").read_bytes()
    assert go_live(run) == published
    assert (settings.models_dir / "HISTORY.jsonl").read_bytes() == history


@pytest.mark.slow
def test_events_that_arrive_during_a_training_wait_for_the_next(trained: TrainedShop, tmp_path: Path) -> None:
    settings = trained.copied_to(tmp_path / "home")
    run = begin(settings, FAST)
    first, last = run.log.time.min(), run.log.time.max()
    earlier = begin(settings, FAST, before=int((first + last) // 2))
    assert earlier.log.time.max() < (first + last) // 2
    assert earlier.name != run.name
    with pytest.raises(InputError, match="another one took its place: start it again"):
        learn_embeddings(TrainingRun(settings, run.name))


@pytest.mark.slow
def test_a_release_with_other_features_does_not_go_on_with_what_an_earlier_one_left(
    trained: TrainedShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = trained.copied_to(tmp_path / "home")
    unfinished = begin(settings, FAST)
    assert begin(settings, FAST).name == unfinished.name
    monkeypatch.setattr(pipeline, "RANKING_HASH", "another")
    assert begin(settings, FAST).name != unfinished.name


@pytest.mark.slow
def test_a_step_before_its_turn_says_which_one_is_missing(trained: TrainedShop, tmp_path: Path) -> None:
    settings = trained.copied_to(tmp_path / "home")
    run = begin(settings, TrainingConfig())
    for too_early in (learn_encoder, learn_ranker):
        with pytest.raises(InputError, match="no embeddings yet"):
            too_early(run)
    with pytest.raises(InputError, match="has not been evaluated yet"):
        go_live(run)
    assert (run.folder / WORK).exists()


@pytest.mark.slow
def test_a_ranker_without_a_session_encoder_says_that_it_is_missing(
    trained: TrainedShop, tmp_path: Path
) -> None:
    run = begin(trained.copied_to(tmp_path / "home"), FAST)
    learn_embeddings(run)
    with pytest.raises(InputError, match="no session encoder yet"):
        learn_ranker(run)


def begun(settings: Settings) -> TrainingRun:
    """A run on two shoppers and two items, of which ann alone met the lamp."""
    happened = [Happened("ann", "lamp", 0), Happened("ann", "cup", 1), Happened("bob", "cup", 2)]
    events, items = table(happened), ITEM_SCHEMA.empty_table()
    plan = Plan("v1", NOON, TrainingConfig(), Split(NOON, NOON, NOON), 2)
    return TrainingRun.begin(settings, "run", plan, events, items)


def erase(run: TrainingRun, event_id: str) -> None:
    def unwanted(rows: pa.Table) -> Bool:
        return rows[Event.ID].to_numpy() == event_id

    assert drop_rows(run.work / EVENTS, [Event.ID], unwanted) == 1


def test_who_was_erased_during_a_training_is_gone_from_its_next_step(settings: Settings) -> None:
    run = begun(settings)
    before = run.log
    assert run.log is before, "read once"
    erase(run, "e0001")
    assert len(run.log.interactions()) == len(before.interactions()) - 1


def test_a_training_of_which_an_erasure_took_an_item_says_to_start_again(settings: Settings) -> None:
    run = begun(settings)
    erase(run, "e0000")
    with pytest.raises(InputError, match=r"erasure took .* start it again"):
        _ = run.log


def test_a_run_of_another_release_says_to_start_again(settings: Settings) -> None:
    (begun(settings).folder / PLAN).write_text('{"version": "v1"}')
    with pytest.raises(InputError, match="another release: start it again"):
        TrainingRun(settings, "run")


def test_a_run_that_never_began_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no training run somewhere .*start it again"):
        TrainingRun(Settings(home=tmp_path, redis_url=None), "somewhere")
