"""Which model is live: the gate, the way back, what is kept, and who is judged by what."""

import math
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from feature_repo.errors import BundleError, GateRefusedError, InputError
from serving.bundle_files import write_bundle
from serving.live_version import current_version
from tests.tiny_bundle import TRAINED_AT, tiny_bundle
from training.evaluation.metrics import Interval
from training.publish import (
    EVALUATION,
    GATE,
    HISTORY,
    Verdict,
    champion_for,
    evaluation_dir,
    list_models,
    models_text,
    publish,
    published_versions,
    remove_unfinished,
    rollback,
    verdict_record,
)

CHAMPION = Interval(0.30, 0.28, 0.32)
FIRST = Verdict(CHAMPION, None, None)
WORSE = Verdict(Interval(0.27, 0.25, 0.29), CHAMPION, "v0")


def make(models: Path, version: str, verdict: Verdict = FIRST) -> str:
    """A model that stands, unpublished, with its twin; its folders hold the version as a prefix of the items."""
    bundle = tiny_bundle(version, prefix=f"{version} ")
    manifest = replace(bundle.manifest, metrics={GATE: verdict_record(verdict)})
    write_bundle(replace(bundle, manifest=manifest), models / version)
    twin = tiny_bundle(version, prefix=f"twin {version} ")
    write_bundle(
        replace(twin, manifest=replace(twin.manifest, training_end=TRAINED_AT - 1000)),
        evaluation_dir(models, version),
    )
    return version


def damage(models: Path, version: str) -> None:
    """Change a byte of a model."""
    path = models / version / "items.price.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def history(models: Path) -> list[tuple[str, str, str | None]]:
    """Version, action and reason of every change."""
    records = map(orjson.loads, (models / HISTORY).read_bytes().splitlines())
    return [(record["version"], record["action"], record["reason"]) for record in records]


def live_after(models: Path, *versions: str) -> None:
    for version in versions:
        publish(models, make(models, version), keep=5)


@pytest.mark.parametrize(
    ("mean", "passed"), [(0.31, True), (0.29, True), (0.28, True), (0.2799, False), (0.0, False)]
)
def test_the_gate_passes_from_the_champions_lower_bound_up(mean: float, *, passed: bool) -> None:
    assert Verdict(Interval(mean, 0, 1), CHAMPION, "v0").passed is passed


def test_the_first_model_passes_and_one_that_could_not_be_measured_does_not_replace_another() -> None:
    nothing = Interval(math.nan, math.nan, math.nan)
    assert Verdict(nothing, None, None).passed
    assert not Verdict(nothing, CHAMPION, "v0").passed


def test_a_model_worse_than_the_live_one_is_refused_and_stays_unpublished(tmp_path: Path) -> None:
    live_after(tmp_path, "v1")
    make(tmp_path, "v2", WORSE)
    expected = (
        r"v2 is worse .*0\.2700 \[0\.2500, 0\.2900\] against 0\.3000 .*freshet publish v2 --force REASON"
    )
    with pytest.raises(GateRefusedError, match=expected):
        publish(tmp_path, "v2", keep=5)
    assert current_version(tmp_path) == "v1"
    assert (tmp_path / "v2").is_dir()
    assert history(tmp_path) == [("v1", "published", None)]


def test_a_refused_model_can_be_forced_and_the_reason_is_kept(tmp_path: Path) -> None:
    live_after(tmp_path, "v1")
    publish(tmp_path, make(tmp_path, "v2", WORSE), keep=5, force="the old one recommends recalled goods")
    assert current_version(tmp_path) == "v2"
    assert history(tmp_path)[-1] == ("v2", "forced", "the old one recommends recalled goods")


@pytest.mark.parametrize("force", [None, "now"])
def test_a_damaged_model_is_not_published_not_even_by_force(tmp_path: Path, force: str | None) -> None:
    live_after(tmp_path, "v1")
    make(tmp_path, "v2")
    damage(tmp_path, "v2")
    with pytest.raises(BundleError, match=r"price\.npy is missing or differs"):
        publish(tmp_path, "v2", keep=5, force=force)
    assert current_version(tmp_path) == "v1"


def test_a_model_that_does_not_stand_or_was_never_judged_is_not_published(tmp_path: Path) -> None:
    write_bundle(tiny_bundle("v1"), tmp_path / "v1")
    with pytest.raises(BundleError, match=r"no model bundle at .*v9"):
        publish(tmp_path, "v9", keep=5)
    with pytest.raises(BundleError, match="v1 was never judged"):
        publish(tmp_path, "v1", keep=5)


def test_rollback_goes_back_a_version_each_time_until_there_is_none(tmp_path: Path) -> None:
    live_after(tmp_path, "v1", "v2", "v3")
    assert [rollback(tmp_path, None), rollback(tmp_path, None)] == ["v2", "v1"]
    assert current_version(tmp_path) == "v1"
    with pytest.raises(InputError, match="no version was live before v1"):
        rollback(tmp_path, None)
    assert current_version(tmp_path) == "v1"
    assert history(tmp_path)[3:] == [("v2", "rolled back", None), ("v1", "rolled back", None)]


def test_rollback_goes_to_what_was_live_before_not_to_what_was_trained_before(tmp_path: Path) -> None:
    live_after(tmp_path, "v1")
    make(tmp_path, "v2", WORSE)
    live_after(tmp_path, "v3")
    publish(tmp_path, "v2", keep=5, force="v3 is broken")
    assert [rollback(tmp_path, None), rollback(tmp_path, None)] == ["v3", "v1"]


def test_rollback_to_a_version_and_forward_again(tmp_path: Path) -> None:
    live_after(tmp_path, "v1", "v2", "v3")
    assert rollback(tmp_path, "v1") == "v1"
    assert rollback(tmp_path, "v3") == "v3"
    assert rollback(tmp_path, None) == "v1"


def test_rollback_never_leads_to_a_model_that_was_rolled_back_from(tmp_path: Path) -> None:
    live_after(tmp_path, "v1", "v2")
    assert rollback(tmp_path, None) == "v1"
    live_after(tmp_path, "v3")
    assert rollback(tmp_path, None) == "v1"


def test_a_damaged_manifest_hides_its_own_model_alone(tmp_path: Path) -> None:
    live_after(tmp_path, "v1", "v2")
    (tmp_path / "v1" / "manifest.json").write_text("{")
    assert [model.manifest.version for model in list_models(tmp_path)] == ["v2"]
    live_after(tmp_path, "v3")
    assert current_version(tmp_path) == "v3"


def test_a_model_that_was_rolled_back_from_counts_among_those_that_stay(tmp_path: Path) -> None:
    live_after(tmp_path, "v1", "v2")
    rollback(tmp_path, None)
    live_after(tmp_path, "v3")
    assert published_versions(tmp_path) == ["v1", "v2", "v3"]


def test_there_is_no_way_round_the_gate_by_rollback(tmp_path: Path) -> None:
    live_after(tmp_path, "v1")
    make(tmp_path, "v2", WORSE)
    with pytest.raises(InputError, match=r"v2 was never live.*freshet publish v2"):
        rollback(tmp_path, "v2")
    assert current_version(tmp_path) == "v1"


def test_rollback_refuses_a_damaged_model(tmp_path: Path) -> None:
    live_after(tmp_path, "v1", "v2")
    damage(tmp_path, "v1")
    with pytest.raises(BundleError, match=r"bundle v1: items\.price\.npy is missing or differs"):
        rollback(tmp_path, None)
    assert current_version(tmp_path) == "v2"


def test_rollback_before_anything_was_published_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no live model to roll back from: run `freshet train`"):
        rollback(tmp_path, None)


def test_the_newest_published_models_stay_with_their_twins_and_the_live_one_among_them(
    tmp_path: Path,
) -> None:
    refused = make(tmp_path, "v0", WORSE)
    for version in ("v1", "v2", "v3", "v4"):
        publish(tmp_path, make(tmp_path, version), keep=2)
    assert {model.manifest.version for model in list_models(tmp_path)} == {refused, "v3", "v4"}
    assert {path.name for path in (tmp_path / EVALUATION).iterdir()} == {refused, "v3", "v4"}
    publish(tmp_path, "v3", keep=2)
    live_after(tmp_path, "v5")
    publish(tmp_path, refused, keep=2, force="the oldest goes live")
    assert current_version(tmp_path) == refused
    assert published_versions(tmp_path) == ["v5", refused]


def test_of_the_refused_models_only_the_newest_stay(tmp_path: Path) -> None:
    live_after(tmp_path, "v1")
    for version in ("v2", "v3", "v4"):
        make(tmp_path, version, WORSE)
        with pytest.raises(GateRefusedError):
            publish(tmp_path, version, keep=2)
    assert [model.manifest.version for model in list_models(tmp_path)] == ["v1", "v3", "v4"]


def test_what_an_interrupted_write_left_behind_is_removed_and_nothing_else(tmp_path: Path) -> None:
    live_after(tmp_path, "v1")
    for unfinished in (tmp_path / ".v2.4711", tmp_path / "evaluation" / ".v2.4711"):
        unfinished.mkdir(parents=True)
        (unfinished / "half.npy").write_bytes(b"half")
    before = {path for path in tmp_path.rglob("*") if "4711" not in str(path)}
    remove_unfinished(tmp_path)
    assert set(tmp_path.rglob("*")) == before


def test_a_champion_that_has_seen_the_requests_is_judged_by_its_twin(tmp_path: Path) -> None:
    live_after(tmp_path, "v1")
    before, after = champion_for(tmp_path, TRAINED_AT - 1), champion_for(tmp_path, TRAINED_AT)
    assert before is not None
    assert after is not None
    assert before.item_ids[0].startswith("twin v1 ")
    assert after.item_ids[0].startswith("v1 ")


def test_there_is_no_champion_before_the_first_and_none_that_cannot_be_read(tmp_path: Path) -> None:
    assert champion_for(tmp_path, TRAINED_AT) is None
    live_after(tmp_path, "v1")
    damage(tmp_path, "v1")
    assert champion_for(tmp_path, TRAINED_AT) is None


def test_the_list_has_a_line_per_model_with_a_star_at_the_live_one(tmp_path: Path) -> None:
    assert models_text(list_models(tmp_path)) == "no models yet: run `freshet train`"
    live_after(tmp_path, "v1")
    make(tmp_path, "v2", WORSE)
    nothing = Interval(math.nan, math.nan, math.nan)
    make(tmp_path, "v3", Verdict(nothing, CHAMPION, "v1"))
    assert models_text(list_models(tmp_path)).splitlines() == [
        "* v1  NDCG@10 0.3000  passed",
        "  v2  NDCG@10 0.2700  refused",
        "  v3  NDCG@10 nan  refused",
    ]
