"""Between two trainings the live model is assembled anew: what is new counts, what was learned stays."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from feature_repo.archive import Archive
from feature_repo.arrays import Strings
from feature_repo.catalog import upsert_items
from feature_repo.errors import BundleError, InputError
from feature_repo.schema import EventType, Item
from feature_repo.session_window import WindowEvent
from feature_repo.settings import Settings
from feature_repo.user_tower import UserTower
from serving.bundle import Bundle
from serving.bundle_files import ARRAYS, read_bundle, write_bundle
from serving.calibration import Calibration
from serving.live_version import live_directories, read_live_bundle, refreshed_directory, set_current
from serving.query import Question
from serving.recommender import Recommender
from tests.tiny_bundle import CALIBRATION
from tests.training.test_assemble import catalog, encoder_of
from tests.training.tiny_log import NOON, Happened, at, table
from training import cli
from training import refresh as steps
from training.assemble import assemble
from training.content import ENOUGH, FEWEST_TO_LEARN_FROM
from training.dataset import read_shop
from training.learned import Learned
from training.locks import AT_ONCE, refresh_lock, training_lock
from training.manifest import new_manifest
from training.refresh import refresh

KINDS = ("cup", "lamp")
NAMES = [f"{kind} {number:02}" for kind in KINDS for number in range(FEWEST_TO_LEARN_FROM // 2 + 1)]
RARE = "lamp 99"
UNMET = "cup 99"
LOG = [
    *(
        Happened(f"s{kind}{n % 9}", name, n)
        for kind, n, name in (
            (name[0], step * len(NAMES) + place, name)
            for step in range(ENOUGH)
            for place, name in enumerate(NAMES)
        )
    ),
    Happened("sl0", RARE, 900),
]
NEW = "mug"
SINCE = [
    *(
        Happened(f"new{n}", item, 1000 + 10 * n + step)
        for n in range(6)
        for step, item in enumerate(["cup 03", NEW])
    ),
    Happened("sl1", RARE, 1100),
]


def described(names: Iterable[str]) -> list[dict[str, str]]:
    return [{Item.ID: name, Item.TITLE: name.split()[0], Item.CATEGORY: name.split()[0]} for name in names]


def happens(settings: Settings, since: Iterable[Happened]) -> None:
    """Bring events into the archive that came after LOG."""
    Archive(settings.archive_dir).append(table([*LOG, *since]).slice(len(LOG)))


def trained_tower(item_ids: Strings) -> UserTower:
    """Cups point one way and lamps another, each a little its own way; of UNMET nothing was learned."""
    is_cup = np.array([name.startswith("cup") for name in item_ids])
    noise = np.random.default_rng(2).normal(scale=0.1, size=(len(item_ids), 2))
    vectors = np.stack([is_cup, ~is_cup], axis=1) + noise
    known = item_ids != UNMET
    vectors *= known[:, None] / np.linalg.norm(vectors, axis=1, keepdims=True)
    return UserTower(
        vectors.astype(np.float32),
        np.where(known, 3, 0).astype(np.float32),
        np.zeros(3, np.float32),
        np.zeros(len(EventType), np.float32),
    )


@pytest.fixture
def shop(settings: Settings) -> Settings:
    """A home of LOG and a catalog, whose live model v1 knows all of both."""
    Archive(settings.archive_dir).append(table(LOG))
    upsert_items(settings.catalog_dir, catalog(described([*NAMES, RARE, UNMET])))
    items, log = read_shop(settings)
    end = int(log.time.max()) + 1
    tower = trained_tower(items.item_ids)
    manifest = replace(new_manifest("v1", NOON, NOON, end), metrics={"gate": "passed"})
    bundle = assemble(log, items, manifest, Learned(tower, encoder_of(tower)), as_of=end)
    write_bundle(replace(bundle, calibration=CALIBRATION), settings.models_dir / "v1")
    set_current(settings.models_dir, "v1")
    return settings


def trained(settings: Settings) -> Bundle:
    return read_bundle(settings.models_dir / "v1")


def slate(bundle: Bundle, *items: str, key: str = "nobody") -> list[str]:
    """What who has just met these items is shown."""
    events = [WindowEvent(at(2000 + n), f"w{n}", EventType.VIEW, item) for n, item in enumerate(items)]
    question = Question(events=events, shopper_key=key, as_of=at(2010), k=20)
    [answer] = Recommender(bundle, 100).recommend([question.encode(bundle)])
    return bundle.item_ids[answer.items].tolist()


def test_an_item_first_met_since_the_training_is_shown_to_who_met_its_companion(shop: Settings) -> None:
    happens(shop, SINCE)
    upsert_items(shop.catalog_dir, catalog([{Item.ID: NEW}]))
    assert NEW not in trained(shop).item_index
    made = refresh(shop)
    assert made is not None
    assert (made.version, made.new, made.newest) == ("v1", 1, at(1100))
    live = read_live_bundle(shop.models_dir)
    assert NEW in slate(live, "cup 03")[:5]
    companion, new = live.item_index["cup 03"], live.item_index[NEW]
    assert live.encoder is not None
    for items in (live.tower, live.encoder.items):
        np.testing.assert_allclose(items.embeddings[new], items.embeddings[companion], atol=1e-6)
        assert items.item_weight[new] == 3  # what items usually weigh


def test_an_item_of_which_there_is_only_a_catalog_row_gets_the_vector_of_those_like_it(
    shop: Settings,
) -> None:
    upsert_items(shop.catalog_dir, catalog(described(["cup of today"])))
    refresh(shop)
    live = read_live_bundle(shop.models_dir)
    new = live.item_index["cup of today"]
    np.testing.assert_allclose(live.tower.embeddings[new], [1, 0], atol=0.1)
    assert live.tower.item_weight[new] == 3


def test_a_new_shopper_is_known_by_what_was_done_since(shop: Settings) -> None:
    happens(shop, SINCE)
    assert "u:new1" not in trained(shop).shopper_index
    refresh(shop)
    live = read_live_bundle(shop.models_dir)
    row = live.shopper_index["u:new1"]
    assert live.item_ids[live.histories.of(row).items].tolist() == ["cup 03", NEW]
    assert np.isfinite(live.users.statistics[row]).all()
    assert live.users.embeddings[row] @ live.tower.embeddings[live.item_index["cup 03"]] > 0.99


def test_vectors_of_trained_items_are_the_same_bit_for_bit(shop: Settings) -> None:
    happens(shop, SINCE)
    refresh(shop)
    before, after = trained(shop), read_live_bundle(shop.models_dir)
    assert len(after.item_ids) > len(before.item_ids)
    assert before.encoder is not None
    assert after.encoder is not None
    assert after.encoder.network == before.encoder.network
    for name in (*NAMES, RARE):
        old, new = before.item_index[name], after.item_index[name]
        for one, other in ((before.tower, after.tower), (before.encoder.items, after.encoder.items)):
            assert one.embeddings[old].tobytes() == other.embeddings[new].tobytes()
            assert one.item_weight[old] == other.item_weight[new]


def test_without_new_events_a_refreshed_model_is_the_trained_one(shop: Settings) -> None:
    refresh(shop)
    [directory, _] = live_directories(shop.models_dir)
    before, after = trained(shop), read_bundle(directory)
    for part in (*ARRAYS, "encoder.items"):
        one, other = (vars(part_of(bundle, part)) for bundle in (before, after))
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=f"{part}.{name}")
    assert isinstance(after.calibration, Calibration)
    assert replace(after.manifest, created=0, checksums={}) == replace(
        before.manifest, created=0, checksums={}
    )
    assert after.manifest.created > before.manifest.created
    for items in ([], ["cup 03"], ["lamp 03", RARE]):
        assert slate(after, *items, key="u:sc1") == slate(before, *items, key="u:sc1")


def part_of(bundle: Bundle, path: str) -> object:
    for name in path.split("."):
        bundle = getattr(bundle, name)
    return bundle


@pytest.mark.parametrize("kept", [2, 3])
def test_nothing_new_makes_no_new_bundle_and_of_many_the_newest_stay(shop: Settings, kept: int) -> None:
    shop = shop.model_copy(update={"refreshed_kept": kept})
    made = []
    for count in range(3, len(SINCE), 3):
        happens(shop, SINCE[:count])
        assert refresh(shop) is not None
        made.append(refreshed_directory(shop.models_dir))
        assert refresh(shop) is None
        assert refreshed_directory(shop.models_dir) == made[-1]
    assert len(set(made)) == len(made) > kept
    assert sorted((shop.models_dir / "refreshed").iterdir()) == sorted(filter(None, made[-kept:]))


def test_what_the_catalog_says_anew_is_new(shop: Settings) -> None:
    refresh(shop)
    sold_out = {**described(["cup 03"])[0], Item.AVAILABLE: False}
    upsert_items(shop.catalog_dir, catalog([sold_out]))
    assert refresh(shop) is not None
    assert "cup 03" not in slate(read_live_bundle(shop.models_dir), "cup 04")


def test_a_refreshed_model_counts_only_while_its_version_is_live(shop: Settings) -> None:
    refresh(shop)
    [refreshed, v1] = live_directories(shop.models_dir)
    assert refreshed.name.startswith("v1-")
    set_current(shop.models_dir, "v2")
    assert live_directories(shop.models_dir) == [shop.models_dir / "v2"]
    set_current(shop.models_dir, "v1")
    assert live_directories(shop.models_dir) == [refreshed, v1]


class Killed(BaseException):
    """The end of a process."""


def killed(*_: object, **__: object) -> None:
    raise Killed


@pytest.mark.parametrize("place", ["write_bundle", "set_refreshed"])
def test_killed_in_between_the_old_model_stays_and_the_next_refresh_is_whole(
    shop: Settings, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    refresh(shop)
    old = live_directories(shop.models_dir)
    happens(shop, SINCE)
    unfinished = shop.models_dir / "refreshed" / ".v1-0.1"
    unfinished.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(steps, place, killed)
        with pytest.raises(Killed):
            refresh(shop)
    assert live_directories(shop.models_dir) == old
    assert NEW not in read_live_bundle(shop.models_dir).item_index
    refresh(shop)
    assert NEW in read_live_bundle(shop.models_dir).item_index
    assert not unfinished.exists()


def test_while_a_training_or_an_erasure_runs_nothing_is_done(shop: Settings) -> None:
    with training_lock(shop), pytest.raises(InputError, match="training runs"):
        refresh(shop)
    with refresh_lock(shop, AT_ONCE), pytest.raises(InputError, match="a refresh or an erasure runs"):
        refresh(shop)
    assert live_directories(shop.models_dir) == [shop.models_dir / "v1"]


def test_an_event_that_is_dated_ahead_waits(shop: Settings) -> None:
    ahead = 2_000_000_000_000_000
    happens(shop, [*SINCE, Happened("far", "cup 03", (ahead - NOON) / 60e6)])
    made = refresh(shop)
    assert made is not None
    assert made.newest == at(1100)


def test_without_a_model_there_is_nothing_to_refresh(settings: Settings) -> None:
    with pytest.raises(BundleError, match="freshet train"):
        refresh(settings)
    assert not settings.models_dir.exists()


def test_a_damaged_refreshed_model_is_passed_over(shop: Settings, caplog: pytest.LogCaptureFixture) -> None:
    refresh(shop)
    [refreshed, _] = live_directories(shop.models_dir)
    damage(refreshed / "items.price.npy")
    assert read_live_bundle(shop.models_dir).manifest == trained(shop).manifest
    assert "items.price.npy" in caplog.text


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_command_says_what_it_made_and_then_that_nothing_is_new(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "read_settings", lambda: shop)
    happens(shop, SINCE)
    first, second = (CliRunner().invoke(cli.app, ["refresh"]) for _ in range(2))
    items = len(NAMES) + 3
    assert first.output.startswith(f"model v1: {items} items, 1 new since it was trained, events up to 2025-")
    assert second.output == "nothing new\n"
