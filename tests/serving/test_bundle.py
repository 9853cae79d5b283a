"""The model bundle: what is read is what was written, or is refused with a word on what to do."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from hashlib import sha256
from operator import attrgetter
from pathlib import Path

import lightgbm
import numpy as np
import orjson
import pytest

from feature_repo.batch_features import USER_STATISTICS
from feature_repo.errors import BundleError
from feature_repo.online_user import OnlineUser
from feature_repo.ranking_features import RANKING_COLUMNS, ShopperState
from feature_repo.schema import MINUTE
from feature_repo.session_features import encode_window
from feature_repo.session_window import WindowEvent
from feature_repo.user_history import NO_HISTORY
from serving import bundle_files
from serving.bundle import Bundle
from serving.bundle_files import (
    ARRAYS,
    ENCODER,
    ENCODER_ITEMS,
    ITEMS,
    MANIFEST,
    RANKER,
    read_bundle,
    read_manifest,
    write_bundle,
)
from serving.live_version import CURRENT, current_version, read_live_bundle, set_current
from serving.query import Question
from serving.ranking import Rankers
from serving.recommender import Recommender
from serving.text_index import FILES
from serving.vector_index import VectorIndex
from tests.tiny_bundle import (
    ALL_VISITS,
    CATEGORY_OF,
    KNOWN_SHOPPER,
    NAMES,
    SHOPPERS,
    TRAINED_AT,
    log_probability,
    publish,
    tiny_bundle,
    tiny_encoder,
    tiny_ranker,
    with_encoder,
)

PARTS = (*ARRAYS, "encoder.items")
"""Parts of a bundle that are nothing but arrays."""


def arrays_of(bundle: Bundle) -> dict[str, "np.typing.NDArray[np.generic]"]:
    """Every array of a bundle by its name."""
    parts = {name: attrgetter(name)(bundle) for name in PARTS}
    return {
        f"{name}.{field.name}": getattr(part, field.name)
        for name, part in parts.items()
        for field in fields(part)
    }


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the tiny shop's bundle stands."""
    return publish(tmp_path / "models", with_encoder(tiny_bundle(), tiny_encoder()))


def slates(bundle: Bundle) -> list[tuple[list[int], list[float]]]:
    """Answers to a stranger, and to a known shopper after each of the items."""
    questions = [Question(events=[], shopper_key=None, as_of=TRAINED_AT)]
    questions += [
        Question(
            events=[WindowEvent(TRAINED_AT - MINUTE, "e1", "view", name)],
            shopper_key=KNOWN_SHOPPER,
            as_of=TRAINED_AT,
        )
        for name in NAMES
    ]
    answers = Recommender(bundle, 8).recommend([question.encode(bundle) for question in questions])
    return [(slate.items.tolist(), slate.scores.tolist()) for slate in answers]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    written = write_bundle(with_encoder(tiny_bundle(), tiny_encoder()), tmp_path / "v1")
    read = read_bundle(tmp_path / "v1")
    found = arrays_of(read)
    for name, expected in arrays_of(written).items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
        assert found[name].dtype == expected.dtype, name
    assert read.encoder is not None
    assert written.encoder is not None
    assert read.encoder.network == written.encoder.network
    assert read.manifest == written.manifest
    assert read.item_ids.tolist() == list(NAMES)
    assert read.shopper_keys.tolist() == list(SHOPPERS)
    assert read.categories == written.categories
    assert read.catalog.equals(written.catalog)


def test_every_part_of_a_bundle_but_names_catalog_and_models_is_arrays() -> None:
    others = {"manifest", "item_ids", "catalog", "categories", "shopper_keys", "encoder", "rankers", "texts"}
    others |= {"tower_index", "encoder_index", "user_index", "place", "states"}
    assert {field.name for field in fields(Bundle)} == {*ARRAYS, *others}


def test_an_array_is_stored_under_the_name_of_its_part_and_field(directory: Path) -> None:
    stored = {path.name for path in directory.glob("*.npy")} - set(FILES.values())
    assert stored == {
        f"{name}.npy".replace("encoder.items", ENCODER_ITEMS)
        for name in arrays_of(with_encoder(tiny_bundle(), tiny_encoder()))
    }


def test_a_bundle_from_disk_gives_the_slates_of_the_one_in_memory(directory: Path) -> None:
    assert slates(read_bundle(directory)) == slates(with_encoder(tiny_bundle(), tiny_encoder()))


def test_a_bundle_without_an_encoder_is_read_as_such(tmp_path: Path) -> None:
    write_bundle(tiny_bundle(), tmp_path / "v1")
    assert read_bundle(tmp_path / "v1").encoder is None
    assert slates(read_bundle(tmp_path / "v1")) == slates(tiny_bundle())


def test_a_bundle_without_a_ranker_is_read_as_such(tmp_path: Path) -> None:
    young = replace(tiny_bundle(), rankers=Rankers(None, None))
    write_bundle(young, tmp_path / "v1")
    assert read_bundle(tmp_path / "v1").rankers == Rankers(None, None)
    assert slates(read_bundle(tmp_path / "v1")) == slates(young)


@pytest.mark.parametrize("name", Rankers._fields)
def test_a_bundle_may_have_one_ranker_alone(tmp_path: Path, name: str) -> None:
    one = replace(tiny_bundle(), rankers=Rankers(None, None)._replace(**{name: tiny_ranker()}))
    write_bundle(one, tmp_path / "v1")
    read = read_bundle(tmp_path / "v1").rankers
    assert [other for other, ranker in read._asdict().items() if ranker is not None] == [name]
    assert slates(read_bundle(tmp_path / "v1")) == slates(one)


def test_a_bundle_that_knows_no_shopper_can_be_read(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    users, histories, segments = bundle.users, bundle.histories, bundle.segments
    nobody = replace(
        bundle,
        shopper_keys=np.array([], dtype=object),
        users=replace(users, statistics=users.statistics[:0], embeddings=users.embeddings[:0]),
        histories=replace(
            histories,
            **{name: column[:0] for name, column in vars(histories).items()},
        ),
        user_index=VectorIndex.of(users.embeddings[:0]),
        segments=replace(segments, centroids=segments.centroids[:0]),
    )
    write_bundle(nobody, tmp_path / "v1")
    assert slates(read_bundle(tmp_path / "v1")) == slates(nobody)


def test_every_file_has_a_checksum(directory: Path) -> None:
    files = {path.name for path in directory.iterdir()}
    assert set(read_manifest(directory).checksums) == files - {MANIFEST}


def test_arrays_are_mapped_read_only(directory: Path) -> None:
    for name, array in arrays_of(read_bundle(directory)).items():
        assert not array.flags.owndata, name
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize("step", ["_checksum", "_write_table", "sync"])
def test_a_write_that_fails_leaves_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def disk_full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(bundle_files, step, disk_full)
        with pytest.raises(OSError, match="no space"):
            write_bundle(tiny_bundle(), tmp_path / "v1")
    assert not (tmp_path / "v1").exists()
    write_bundle(tiny_bundle(), tmp_path / "v1")
    assert slates(read_bundle(tmp_path / "v1")) == slates(tiny_bundle())


def test_a_write_that_is_killed_at_the_last_moment_leaves_no_bundle(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from serving.bundle_files import write_bundle
from tests.tiny_bundle import tiny_bundle
Path.rename = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
write_bundle(tiny_bundle(), Path(sys.argv[1]))
"""
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "v1")], check=False, cwd=Path(__file__).parents[2]
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "v1").exists()
    with pytest.raises(BundleError, match="run `freshet train`"):
        read_bundle(tmp_path / "v1")


def test_a_version_that_stands_is_not_overwritten(directory: Path) -> None:
    before = slates(read_bundle(directory))
    with pytest.raises(OSError, match="not empty"):
        write_bundle(tiny_bundle(prefix="new-"), directory)
    assert slates(read_bundle(directory)) == before
    assert read_bundle(directory).item_ids.tolist() == list(NAMES)


@pytest.mark.parametrize(
    "name",
    [
        "covisited.items.npy",
        "tower.embeddings.npy",
        "items.price.npy",
        "encoder_items.embeddings.npy",
        ENCODER,
        ITEMS,
        *(f"{name}_{RANKER}" for name in Rankers._fields),
    ],
)
def test_a_single_changed_byte_is_noticed(directory: Path, name: str) -> None:
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"bundle v1: {name} .* `freshet rollback VERSION`"):
        read_bundle(directory)


def test_a_missing_file_is_noticed(directory: Path) -> None:
    (directory / "items.price.npy").unlink()
    with pytest.raises(BundleError, match=r"items.price.npy is missing .* train again"):
        read_bundle(directory)


@pytest.mark.parametrize("name", Rankers._fields)
def test_a_ranker_that_cannot_rank_is_refused_before_it_is_asked(directory: Path, name: str) -> None:
    file, manifest = directory / f"{name}_{RANKER}", directory / MANIFEST
    data = lightgbm.Dataset(np.random.default_rng(1).random((100, 3)), np.arange(100.0))
    lightgbm.train({"objective": "regression", "verbose": -1}, data, num_boost_round=1).save_model(file)
    checksums = {**read_manifest(directory).checksums, file.name: sha256(file.read_bytes()).hexdigest()}
    manifest.write_bytes(change(checksums=checksums)(manifest.read_bytes()))
    with pytest.raises(BundleError, match=rf"bundle v1: {file.name}: a model of 3 columns .* train again"):
        read_bundle(directory)


def change(**values: object) -> Callable[[bytes], bytes]:
    return lambda content: orjson.dumps({**orjson.loads(content), **values})


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda _: b"",
        lambda _: b"\xff\xfe",
        lambda _: b"{}",
        lambda _: b"[]",
        lambda _: b"null",
        change(a_field_of_tomorrow=1),
    ],
)
def test_a_damaged_manifest_is_refused_and_says_how_to_go_on(
    directory: Path, damage: Callable[[bytes], bytes]
) -> None:
    manifest = directory / MANIFEST
    manifest.write_bytes(damage(manifest.read_bytes()))
    with pytest.raises(BundleError, match=r"manifest.json is damaged .* `freshet rollback`"):
        read_bundle(directory)


def test_a_bundle_for_other_features_names_them_and_says_to_train_again(directory: Path) -> None:
    manifest = directory / MANIFEST
    columns = ["moon_phase", *RANKING_COLUMNS[1:]]
    manifest.write_bytes(change(feature_hash="another", feature_columns=columns)(manifest.read_bytes()))
    with pytest.raises(BundleError, match="train again") as refusal:
        read_bundle(directory)
    assert f"lacks ['{RANKING_COLUMNS[0]}']" in str(refusal.value)
    assert "has unknown ['moon_phase']" in str(refusal.value)


def test_the_live_bundle_is_the_one_that_current_names(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        write_bundle(tiny_bundle(version), tmp_path / version)
    for version in ("v1", "v2", "v1"):
        set_current(tmp_path, version)
        assert current_version(tmp_path) == version
        assert read_live_bundle(tmp_path).manifest.version == version


def test_before_the_first_is_published_one_is_told_to_train(tmp_path: Path) -> None:
    assert current_version(tmp_path) is None
    with pytest.raises(BundleError, match=r"no model is published .* `freshet train`"):
        read_live_bundle(tmp_path)


def test_a_version_that_does_not_exist_is_named(tmp_path: Path) -> None:
    set_current(tmp_path, "v9")
    with pytest.raises(BundleError, match=r"no model bundle at .*v9"):
        read_live_bundle(tmp_path)


def test_current_names_the_old_version_until_it_names_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_current(tmp_path, "old")
    replace_file = Path.replace

    def watched(source: Path, target: Path) -> Path:
        assert current_version(tmp_path) == "old"
        assert source.read_text() == "new\n"
        return replace_file(source, target)

    monkeypatch.setattr(Path, "replace", watched)
    set_current(tmp_path, "new")
    assert current_version(tmp_path) == "new"
    assert os.listdir(tmp_path) == [CURRENT]


def test_a_known_shopper_has_the_row_of_the_training() -> None:
    bundle = tiny_bundle()
    row = bundle.user_row(KNOWN_SHOPPER, encode_window([], bundle.item_index))
    np.testing.assert_array_equal(row.statistics, bundle.users.statistics[0])
    np.testing.assert_array_equal(row.embedding, bundle.users.embeddings[0])
    assert row.history.items.tolist() == [NAMES.index("mug"), NAMES.index("teapot")]
    assert row.history.visits.tolist() == [3, 2]
    assert row.history.total_visits == ALL_VISITS[0]


@pytest.mark.parametrize("key", [None, "u:nobody", "v:ada"])
def test_a_shopper_the_training_did_not_know_is_folded_in_from_the_window(key: str | None) -> None:
    bundle = tiny_bundle()
    events = [WindowEvent(TRAINED_AT, "e1", "view", "lamp"), WindowEvent(TRAINED_AT, "e2", "search")]
    row = bundle.user_row(key, encode_window(events, bundle.item_index))
    np.testing.assert_array_equal(row.embedding, np.eye(3, dtype=np.float32)[CATEGORY_OF["lamp"]])
    assert np.isnan(row.statistics).all()
    assert row.history is NO_HISTORY
    stranger = bundle.user_row(key, encode_window([], bundle.item_index))
    assert stranger.embedding.tolist() == [0, 0, 0]


def online(bundle: Bundle, version: str) -> OnlineUser:
    """A shopper's row as the newest build of features brought it online, with a vector of model ``version``."""
    statistics = np.arange(len(USER_STATISTICS), dtype=np.float32)
    vector = np.zeros(bundle.tower.embeddings.shape[1], dtype=np.float32)
    return OnlineUser(statistics, vector, version, TRAINED_AT + 1)


def test_features_brought_online_since_go_before_those_of_the_training() -> None:
    bundle = tiny_bundle()
    newer = online(bundle, bundle.manifest.version)
    row = bundle.user_row(KNOWN_SHOPPER, encode_window([], bundle.item_index), newer)
    np.testing.assert_array_equal(row.statistics, newer.statistics)
    np.testing.assert_array_equal(row.embedding, newer.embedding)
    assert row.history.items.size == 2  # of which nothing newer is brought online


def test_a_vector_of_another_model_is_left_aside_and_the_statistics_are_not() -> None:
    bundle = tiny_bundle()
    newer = online(bundle, "another")
    known = bundle.user_row(KNOWN_SHOPPER, encode_window([], bundle.item_index), newer)
    np.testing.assert_array_equal(known.statistics, newer.statistics)
    np.testing.assert_array_equal(known.embedding, bundle.users.embeddings[0])
    events = [WindowEvent(TRAINED_AT, "e1", "view", "lamp")]
    stranger = bundle.user_row("u:new", encode_window(events, bundle.item_index), newer)
    np.testing.assert_array_equal(stranger.embedding, np.eye(3, dtype=np.float32)[CATEGORY_OF["lamp"]])


def state(bundle: Bundle, *names: str) -> ShopperState:
    """A stranger who viewed the items and then searched."""
    viewed = [WindowEvent(TRAINED_AT, f"e{number}", "view", name) for number, name in enumerate(names)]
    window = encode_window([*viewed, WindowEvent(TRAINED_AT, "e9", "search")], bundle.item_index)
    return ShopperState(window, bundle.user_row(None, window), TRAINED_AT)


def test_what_a_model_makes_of_a_shopper_is_said_once_for_all_sources() -> None:
    bundle = with_encoder(tiny_bundle(), tiny_encoder())
    interest = bundle.interest(state(bundle, "lamp", "mug"))
    assert interest.active.items.tolist() == [NAMES.index("lamp"), NAMES.index("mug")]
    np.testing.assert_array_equal(interest.session, bundle.tower.session_vector(interest.active))
    assert bundle.encoder is not None
    expected = log_probability(bundle.encoder, interest.active, TRAINED_AT)
    assert interest.expected is not None
    np.testing.assert_array_equal(
        interest.expected.log_probability(np.arange(len(NAMES), dtype=np.int32)), expected
    )


def test_of_an_empty_window_or_without_an_encoder_nothing_is_expected() -> None:
    bundle = with_encoder(tiny_bundle(), tiny_encoder())
    nothing = bundle.interest(state(bundle))
    assert nothing.expected is None
    assert nothing.active.items.size == 0
    assert nothing.session.tolist() == [0, 0, 0]
    assert tiny_bundle().interest(state(bundle, "lamp")).expected is None
