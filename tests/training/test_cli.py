"""The commands as a person types them: what they print, and the one line they print when something is wrong."""

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from feature_repo.archive import Archive
from feature_repo.redis_event_log import RedisEventLog
from feature_repo.schema import Event
from feature_repo.settings import Settings
from serving.embedded_redis import embedded_redis
from serving.live_version import current_version
from tests.conftest import free_port
from tests.feature_repo.log_events import event
from tests.tiny_bundle import TRAINED_AT
from tests.training.conftest import TrainedShop
from tests.training.test_publish import WORSE, damage, make
from training.cli import main

PROGRESS = re.compile(r"\d\d:\d\d:\d\d ")
"""Starts a line that says how far a command is."""


@dataclass(frozen=True)
class Freshet:
    """Runs commands in a home of its own."""

    home: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    @property
    def models(self) -> Path:
        return self.home / "models"

    def run(self, *arguments: object, **environment: str) -> tuple[int | str | None, str, str]:
        """Exit code, stdout and stderr of a command."""
        self.capsys.readouterr()
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["freshet", *map(str, arguments)])
            for name, value in {"FRESHET_HOME": str(self.home), **environment}.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        return ended.value.code, *self.capsys.readouterr()

    def says(self, *arguments: object, **environment: str) -> str:
        """Standard output of a command that succeeds."""
        code, out, err = self.run(*arguments, **environment)
        assert code == 0, err
        return out

    def fails(self, *arguments: object, **environment: str) -> str:
        """The one line on stderr of a command that fails as expected."""
        code, out, err = self.run(*arguments, **environment)
        assert (code, out) == (1, "")
        [line] = [line for line in err.splitlines() if not PROGRESS.match(line)]
        assert line.startswith("freshet: ")
        return line


@pytest.fixture
def freshet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Freshet:
    return Freshet(tmp_path / "home", monkeypatch, capsys)


@pytest.fixture
def windows(tmp_path: Path) -> Path:
    """Two requests of the tiny shop's items."""
    items = ["v2 kettle", "v2 lamp", "v2 mug"]
    times = [TRAINED_AT + n for n in range(3)]
    columns = {Event.REQUEST: ["a", "b", "a"], Event.ITEM: items, Event.TIMESTAMP: times}
    pa_csv.write_csv(pa.table(columns), tmp_path / "windows.csv")
    return tmp_path / "windows.csv"


def test_models_are_published_listed_and_rolled_back(freshet: Freshet) -> None:
    assert freshet.says("models") == "no models yet: run `freshet train`\n"
    for version in ("v1", "v2"):
        make(freshet.models, version)
        assert freshet.says("publish", version) == f"model {version} is live\n"
    assert freshet.says("rollback") == "model v1 is live\n"
    assert freshet.says("rollback", "v2") == "model v2 is live\n"
    assert freshet.says("models") == "  v1  NDCG@10 0.3000  passed\n* v2  NDCG@10 0.3000  passed\n"


def test_a_worse_model_is_published_by_force_alone(freshet: Freshet) -> None:
    make(freshet.models, "v1", WORSE)
    assert "freshet publish v1 --force REASON" in freshet.fails("publish", "v1")
    assert current_version(freshet.models) is None
    assert freshet.says("publish", "v1", "--force", "a test") == "model v1 is live\n"


def test_rollback_says_why_it_cannot(freshet: Freshet) -> None:
    assert "run `freshet train`" in freshet.fails("rollback")
    for version in ("v1", "v2"):
        make(freshet.models, version)
        freshet.says("publish", version)
    assert "never live" in freshet.fails("rollback", "v7")
    damage(freshet.models, "v1")
    assert "differs from its checksum" in freshet.fails("rollback")
    assert current_version(freshet.models) == "v2"


def test_recommend_writes_a_slate_per_request(freshet: Freshet, windows: Path, tmp_path: Path) -> None:
    make(freshet.models, "v2")
    freshet.says("publish", "v2")
    out = tmp_path / "slates.parquet"
    said = freshet.says("recommend", "--events", windows, "--out", out, "--k", 3)
    assert said == f"2 slates of up to 3 items from model v2: {out}\n"
    assert pq.read_table(out)[Event.REQUEST].to_pylist() == ["a"] * 3 + ["b"] * 3
    items = pq.read_table(out)[Event.ITEM].to_pylist()
    assert "v2 mug" not in items[:3]
    freshet.says("recommend", "--events", windows, "--out", out, "--k", 3, "--repeat-last")
    assert "v2 mug" in pq.read_table(out)[Event.ITEM].to_pylist()[:3]


def test_recommend_writes_nothing_when_it_cannot_answer(
    freshet: Freshet, windows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "slates.parquet"
    assert "run `freshet train`" in freshet.fails("recommend", "--events", windows, "--out", out)
    make(freshet.models, "v2")
    freshet.says("publish", "v2")
    nowhere = tmp_path / "nowhere"
    assert "is not a file" in freshet.fails("recommend", "--events", tmp_path / "no.csv", "--out", out)
    assert "nowhere is not a folder" in freshet.fails(
        "recommend", "--events", windows, "--out", nowhere / "slates.parquet"
    )
    windows.write_text(f"{windows.read_text()}c,mug,yesterday\n")
    assert "row 4 has no usable timestamp" in freshet.fails("recommend", "--events", windows, "--out", out)
    assert not out.exists()
    assert not nowhere.exists()


def test_recommend_never_loads_torch(freshet: Freshet, windows: Path, tmp_path: Path) -> None:
    make(freshet.models, "v2")
    freshet.says("publish", "v2")
    out = tmp_path / "slates.parquet"
    script = (
        f"import sys; sys.argv = ['freshet', 'recommend', '--events', {str(windows)!r}, '--out', {str(out)!r}]\n"
        "from training.cli import main\n"
        "try: main()\n"
        "finally:\n"
        "    if 'torch' in sys.modules: sys.exit('torch was loaded')"
    )
    environment = os.environ | {"FRESHET_HOME": str(freshet.home)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert out.exists()


def test_an_expected_error_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from training.cli import main; main()", "rollback"]
    environment = os.environ | {"FRESHET_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    expected = "freshet: there is no live model to roll back from: run `freshet train`\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_train_says_what_it_lacks(freshet: Freshet) -> None:
    assert "holds 0 interactions with items, training needs 200" in freshet.fails("train")


@pytest.mark.slow
def test_train_prints_scores_and_verdict(trained: TrainedShop, freshet: Freshet) -> None:
    trained.copied_to(freshet.home)
    *table, verdict, live = freshet.says("train", "--epochs", 1, "--force", "a test").splitlines()
    methods = [line.split("  ")[0] for line in table]
    assert methods == [
        "method",
        "popularity",
        "covisitation",
        "ranked without session",
        "ranked",
        "champion",
    ]
    assert trained.outcome.version in verdict
    assert live == f"model {current_version(freshet.models)} is live"
    assert freshet.says("rollback") == f"model {trained.outcome.version} is live\n"


@pytest.mark.integration
def test_ingest_moves_the_log_into_the_archive(freshet: Freshet) -> None:
    port = str(free_port())
    environment = {
        "FRESHET_REDIS_PORT": port,
        "FRESHET_REDIS_TIMEOUT_SECONDS": "5",
        "FRESHET_SLATE_SECONDS": "5",
    }
    settings = Settings(home=freshet.home, redis_port=int(port), redis_timeout_seconds=5)

    async def log(url: str) -> None:
        opened = RedisEventLog.connect(url, settings)
        await opened.append([event(number) for number in range(7)])
        await opened.aclose()

    with embedded_redis(settings) as url:
        asyncio.run(log(url))
    archive = freshet.home / "archive"
    assert freshet.says("ingest", **environment) == f"7 events moved to {archive}\n"
    assert freshet.says("ingest", **environment) == f"0 events moved to {archive}\n"
    assert Archive(archive).read()[Event.ID].to_pylist() == [event(number).event_id for number in range(7)]


@pytest.mark.integration
def test_ingest_without_its_redis_says_so(freshet: Freshet) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}"
    assert "127.0.0.1" in freshet.fails("ingest", FRESHET_REDIS_URL=nobody)


@pytest.mark.parametrize("variable", ["FRESHET_PORT", "FRESHET_WINDOW_SIZE"])
def test_a_setting_that_cannot_be_used_is_named(variable: str, tmp_path: Path) -> None:
    environment = {**os.environ, "FRESHET_HOME": str(tmp_path), variable: "many"}
    done = subprocess.run(
        [Path(sys.executable).with_name("freshet"), "models"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"freshet: {variable} is 'many': ")
    assert done.stderr.count("\n") == 1
