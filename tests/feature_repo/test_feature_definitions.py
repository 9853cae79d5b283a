"""The registry's objects, and Feast's own commands over them as a person types them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import yaml
from redis import Redis

from feature_repo.feature_views import Definitions, define
from feature_repo.offline_store import EVENT_TIMESTAMP, ITEM_WINDOWS, SNAPSHOT_SCHEMAS, View, write_snapshot
from feature_repo.online_store import NewestWinsOnlineStoreConfig
from feature_repo.online_user import PROJECT, USER_FIELDS, decode_user, user_key
from feature_repo.session_features import SESSION_FEATURES
from tests.conftest import free_port, wait_until
from tests.feature_repo.feature_rows import NOON, same_everywhere

REPOSITORY = Path(__file__).parent.parent.parent
FEAST = Path(sys.executable).with_name("feast")
DEFINED = define(Path("/features"))
INTERVAL = ("2025-06-01T00:00:00", "2025-07-01T00:00:00")


@pytest.mark.parametrize("name", Definitions._fields)
def test_every_object_has_an_owner_a_description_and_its_own_name(name: str) -> None:
    defined = getattr(DEFINED, name)
    assert defined.name == name
    assert defined.owner == "shop"
    assert defined.description
    assert defined.tags


@pytest.mark.parametrize("view", SNAPSHOT_SCHEMAS)
def test_a_view_registers_the_columns_that_its_files_have(view: str) -> None:
    registered = getattr(DEFINED, view)
    key, *features = [name for name in SNAPSHOT_SCHEMAS[view].names if name != EVENT_TIMESTAMP]
    assert [field.name for field in registered.features] == features
    assert registered.join_keys == [key]
    assert registered.batch_source.path == f"/features/{view}"


def test_the_ranking_service_holds_every_view() -> None:
    views = {view.name for view in DEFINED.ranking_v1.feature_view_projections}
    assert views == {*SNAPSHOT_SCHEMAS, "session_features"}


def test_item_windows_are_pushed() -> None:
    source = DEFINED.item_windows.stream_source
    assert source is not None
    assert source.name == "item_windows_push"
    assert [field.name for field in DEFINED.item_windows.features] == list(ITEM_WINDOWS)


@pytest.mark.parametrize("view", [*SNAPSHOT_SCHEMAS, "session_features"])
def test_a_view_and_its_columns_are_documented(view: str) -> None:
    (row,) = re.findall(
        rf"^\| `{view}` \| .* \|$", (REPOSITORY / "docs/features.md").read_text(), re.MULTILINE
    )
    columns = re.findall(r"`(\w+)`", row.split(" | ")[2])
    assert columns == [field.name for field in getattr(DEFINED, view).features]


def test_feast_loads_the_definitions_and_nothing_else() -> None:
    folder = REPOSITORY / "feature_repo"
    ignored = (folder / ".feastignore").read_text().split()
    python = {path.name for path in folder.glob("*.py")} - {"__init__.py", "feature_definitions.py"}
    assert sorted(ignored) == sorted(python)


def test_the_configuration_names_the_project_that_ends_every_key() -> None:
    config = yaml.safe_load((REPOSITORY / "feature_repo" / "feature_store.yaml").read_text())
    assert config["project"] == PROJECT


def test_without_a_variable_the_online_store_is_the_redis_that_freshet_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = "feature_repo.online_store.NewestWinsOnlineStore"
    for name in [name for name in os.environ if name.startswith("FRESHET_")]:
        monkeypatch.delenv(name)
    assert NewestWinsOnlineStoreConfig(type=kind).connection_string == "127.0.0.1:6390"
    monkeypatch.setenv("FRESHET_REDIS_URL", "redis://:secret@cache.example/2")
    said = NewestWinsOnlineStoreConfig(type=kind).connection_string
    assert said == 'cache.example:6379,password="secret",db=2'


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the feature repository that never ran: its var/ is its own, not this repository's."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(
        REPOSITORY / "feature_repo", root / "feature_repo", ignore=shutil.ignore_patterns("__pycache__")
    )
    return root


def clean_shell(checkout: Path, **variables: str) -> dict[str, str]:
    """No variable set but the path, and what makes Python take the checkout's package for the installed one."""
    return {"PATH": os.defpath, "PYTHONPATH": str(checkout), **variables}


def run_feast(checkout: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FEAST, "-c", "feature_repo", *words],
        cwd=checkout,
        env=clean_shell(checkout, **variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def feast(checkout: Path, *words: str, **variables: str) -> str:
    """What a command prints that succeeds and warns of nothing."""
    done = run_feast(checkout, *words, **variables)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def applied(checkout: Path) -> Path:
    """The checkout after `feast apply`."""
    assert not (checkout / "var").exists()
    feast(checkout, "apply")
    return checkout


@pytest.mark.slow
def test_a_checkout_that_never_ran_lists_nothing_and_does_not_fail(checkout: Path) -> None:
    shutil.rmtree(checkout / "var", ignore_errors=True)
    assert feast(checkout, "entities", "list").split() == ["NAME", "DESCRIPTION", "TYPE"]
    shutil.rmtree(checkout / "var")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("entities", ["user", "item"]),
        ("feature-views", [*SNAPSHOT_SCHEMAS, "session_features"]),
        ("feature-services", ["ranking_v1"]),
        ("on-demand-feature-views", ["session_features"]),
    ],
)
def test_feast_lists_what_was_applied(what: str, names: list[str], applied: Path) -> None:
    _, *rows = feast(applied, what, "list").splitlines()
    assert {row.split()[0] for row in rows if not row.startswith(" ")} == set(names)


@pytest.mark.slow
@pytest.mark.integration
def test_feast_materializes_before_and_after_features_were_computed(
    applied: Path, redis_url: str, clean_redis: Redis
) -> None:
    feast(applied, "materialize", *INTERVAL, FRESHET_REDIS_URL=redis_url)
    assert clean_redis.dbsize() == 0
    rows = same_everywhere(["u:ann"], 3)
    write_snapshot(applied / "var" / "features", View.USER_STATISTICS, rows, NOON)
    feast(applied, "materialize", *INTERVAL, FRESHET_REDIS_URL=redis_url)
    ann = decode_user(clean_redis.hmget(user_key("u:ann"), USER_FIELDS))  # type: ignore[arg-type]
    assert ann is not None
    assert (ann.computed_at, ann.statistics is not None and ann.statistics.tolist()) == (NOON, [3] * 8)


@pytest.mark.slow
@pytest.mark.integration
def test_to_apply_again_keeps_the_states(applied: Path, redis_url: str, clean_redis: Redis) -> None:
    feast(applied, "materialize", *INTERVAL, FRESHET_REDIS_URL=redis_url)
    materialized = feast(applied, "feature-views", "list")
    assert materialized.count("AVAILABLE_ONLINE") == len(SNAPSHOT_SCHEMAS)
    feast(applied, "apply")
    assert feast(applied, "feature-views", "list") == materialized


@pytest.mark.slow
def test_without_a_redis_one_line_says_what_to_do(applied: Path, tmp_path: Path) -> None:
    port = free_port()
    there = {"FRESHET_HOME": str(tmp_path), "FRESHET_REDIS_URL": f"redis://:secret@127.0.0.1:{port}"}
    feast(applied, "apply", **there)
    rows = same_everywhere(["u:ann"], 3)
    write_snapshot(tmp_path / "features", View.USER_STATISTICS, rows, NOON)
    done = run_feast(applied, "materialize", *INTERVAL, **there)
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: no Redis at 127.0.0.1:{port}: run `freshet redis` in another shell, or set FRESHET_REDIS_URL\n"
    )


@pytest.mark.slow
def test_another_home_has_a_registry_and_sources_of_its_own(applied: Path, tmp_path: Path) -> None:
    here = (applied / "var" / "registry.db").read_bytes()
    feast(applied, "apply", FRESHET_HOME=str(tmp_path))
    assert str(tmp_path / "features" / "user_statistics").encode() in (tmp_path / "registry.db").read_bytes()
    assert (tmp_path / "features" / "user_statistics" / "empty.parquet").exists()
    assert (applied / "var" / "registry.db").read_bytes() == here


@pytest.mark.slow
@pytest.mark.integration
def test_a_notebook_runs_the_session_view_from_the_registry_alone(applied: Path, redis_url: str) -> None:
    row = {
        "window_item_ids": ["mug"],
        "window_event_types": ["view"],
        "window_times": [NOON],
        "as_of": NOON,
    }
    program = (
        "import json, sys; from feast import FeatureStore; store = FeatureStore('feature_repo')\n"
        f"asked = ['session_features:' + name for name in {SESSION_FEATURES!r}]\n"
        f"said = store.get_online_features(features=asked, entity_rows=[{row!r}]).to_dict()\n"
        "assert 'feature_repo.feature_views' not in sys.modules\n"
        "print(json.dumps(said))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=applied,
        env=clean_shell(applied, FRESHET_REDIS_URL=redis_url),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert [said[name] for name in SESSION_FEATURES] == [[1], [1], [0], [0], [0], [0], [1], [0], [0]]


@pytest.fixture
def feast_ui(applied: Path) -> Iterator[str]:
    """Address of `feast ui`, which runs until the test ends."""
    port = free_port()
    command = [str(FEAST), "-c", "feature_repo", "ui", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=applied, env=clean_shell(applied), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def fetch(url: str) -> str:
    """What a server says, the empty text while it does not answer yet."""
    with suppress(httpx.TransportError):
        return httpx.get(url, timeout=10).text
    return ""


@pytest.mark.slow
@pytest.mark.integration
def test_feast_ui_shows_the_registry(feast_ui: str) -> None:
    wait_until(lambda: "Feast" in fetch(feast_ui), 60)
    wait_until(lambda: "ranking_v1" in fetch(f"{feast_ui}/api/v1/feature_services?project={PROJECT}"), 10)
