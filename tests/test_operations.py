"""docs/operations.md says what is, and its drill works."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from feature_repo.settings import Settings
from serving.metrics import Metrics
from tests.conftest import free_port
from tests.test_end_to_end import Shop, click, post
from tests.tiny_bundle import publish, tiny_bundle
from training.demo.processes import processes
from training.doctor.examination import CHECKS
from training.doctor.machine import DISK_GIB, MEMORY_GIB
from training.stream.metrics import StreamMetrics

PAGE = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Cells of the first table under a heading."""
    section = PAGE.split(f"\n{heading}\n", 1)[1].split("\n## ")[0]
    [table] = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[:1]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_the_page_lists_every_check_of_the_doctor_in_its_order() -> None:
    names = [name for cells in rows("## Is all well? `freshet doctor`") for name in cells[0].split(", ")]
    assert names == list(CHECKS)
    assert f"{MEMORY_GIB} GiB are available" in PAGE
    assert f"has {DISK_GIB} GiB free" in PAGE


def test_the_page_lists_the_processes_with_their_commands_and_ports() -> None:
    listed = [(cells[0], cells[1].strip("`"), cells[2]) for cells in rows("## The processes")]
    assert listed == [
        (process.name, " ".join(process.command), ", ".join(str(port.number) for port in process.ports))
        for process in processes(Settings(redis_url=None))
    ]
    down = {cells[0] for cells in rows("### When one is down")}
    assert down == {name for name, _, _ in listed}


def test_every_metric_named_is_one_that_the_api_or_the_stream_exposes() -> None:
    exposed = (Metrics().render() + generate_latest(StreamMetrics().registry)).decode()
    named = set(re.findall(r"`(freshet_\w+)`", PAGE.split("\n## Monitoring\n")[1]))
    assert len(named) > 1
    assert [name for name in named if f"# TYPE {name.removesuffix('_count')} " not in exposed] == []


@pytest.mark.slow
@pytest.mark.integration
def test_a_home_restored_elsewhere_has_the_same_slate_and_every_event(tmp_path: Path) -> None:
    shop = patient_shop(tmp_path / "shop")
    publish(shop.home / "models", tiny_bundle())
    with shop.server() as client:
        click(client, "anna", ["kettle", "mug"])
        before = slate_of_anna(client)
    shutil.copytree(shop.home, tmp_path / "backup", symlinks=True)
    shutil.rmtree(shop.home)
    restored = patient_shop(tmp_path / "elsewhere" / "shop")
    shutil.copytree(tmp_path / "backup", restored.home, symlinks=True)
    with restored.server() as client:
        assert slate_of_anna(client) == before
        found = restored.run("doctor")
        for port in ("FRESHET_PORT", "FRESHET_REDIS_PORT"):
            assert f"{restored.environment[port]} is used by Freshet itself" in found
        assert "2 events wait" in found
        assert restored.run("ingest") == f"2 events moved to {restored.home / 'archive'}\n"


def patient_shop(home: Path) -> Shop:
    """A shop on free ports whose server waits for Redis on a busy machine."""
    shop = Shop.at(home)
    airflow = [
        name for name in Settings.model_fields if name.startswith("airflow_") and name.endswith("port")
    ]
    shop.environment.update({f"FRESHET_{name.upper()}": str(free_port()) for name in airflow})
    shop.environment["FRESHET_REDIS_TIMEOUT_SECONDS"] = "5"
    return shop


def slate_of_anna(client: Any) -> list[tuple[str, float, list[str]]]:
    """What she is shown, why, and how sure that is."""
    reply = post(client, "/v1/recommendations", {"visitor_id": "anna", "k": 5})
    assert reply["degraded"] == []
    return [(item["item_id"], item["score"], item["sources"]) for item in reply["items"]]
