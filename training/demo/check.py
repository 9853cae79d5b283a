"""``freshet demo --check``: the demo from nothing in a folder of its own, and whether it kept its promises."""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from feature_repo.archive import Archive
from feature_repo.errors import FreshetError, InputError
from feature_repo.offline_store import SHOPPER_KEY, View, read_snapshot, snapshots
from feature_repo.schema import Event, EventType, shopper_key
from feature_repo.settings import Settings
from serving.live_version import current_version
from serving.served.served_log import Served
from training.demo.airflow_api import AssetEvent
from training.demo.dag_chain import CHAIN
from training.demo.demo import show_asset_events
from training.demo.memory import MemoryWatch, watched_memory
from training.demo.platform import Platform, require_free_ports, running_platform
from training.demo.processes import processes
from training.demo.screen import Screen
from training.demo.shopper import CLICKS, Shopper, Visit, show
from training.demo.shops import Shop

MOST_MEMORY: Final = 4 * 2**30
"""Bytes that all processes together may take."""
_GIB: Final = 2**30
_ON_DISK_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.5


class Findings:
    """What was verified, a line each."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.failed = 0

    def note(self, promise: str, problem: str | None) -> None:
        """Tell that a promise was kept, or what is the matter with it."""
        self.failed += problem is not None
        self._screen.say(f"ok      {promise}" if problem is None else f"FAILED  {promise}: {problem}")


def passes(settings: Settings, find_shop: Callable[[Settings], Shop]) -> bool:
    """Run the demo on a shop in a new home, verify it and stop it; True if every promise was kept.

    The home is removed, unless something failed: its logs may say why.
    """
    screen = Screen(Console())
    findings = Findings(screen)
    started = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="freshet-demo-"))
    with watched_memory() as memory:
        try:
            _run(find_shop(settings.model_copy(update={"home": home})), screen, findings)
        except FreshetError as error:
            findings.note("the demo runs", str(error))
        except KeyboardInterrupt:
            findings.note("the demo runs", "it was interrupted")
        _verify_end(settings, memory, findings)
    screen.say(f"{'failed' if findings.failed else 'passed'} after {time.monotonic() - started:.0f} s")
    if findings.failed:
        screen.say(f"state and logs are kept in {home}")
    else:
        shutil.rmtree(home)
    return not findings.failed


def _run(shop: Shop, screen: Screen, findings: Findings) -> None:
    settings = shop.settings
    with running_platform(shop, screen) as platform:
        told = platform.make_model_live()
        show_asset_events(told, screen)
        findings.note("the DAGs made a model live", _model_problem(settings, told))
        shopper = Shopper(platform.api)
        visit = shopper.visit()
        show(visit, shopper, screen)
        findings.note("the slate follows the clicks", _slate_problem(visit))
        findings.note("served slates are on disk with their features", _served_problem(settings, visit))
        _verify_loop(platform, visit, findings)


def _verify_loop(platform: Platform, visit: Visit, findings: Findings) -> None:
    """The shopper's clicks are in the archive after ``ingest_events`` and counted by ``build_features``."""
    platform.run_dags(CHAIN[:2])
    settings = platform.settings
    archived = Archive(settings.archive_dir).read(columns=[Event.VISITOR, Event.TYPE])
    clicks = archived.filter(
        (pc.field(Event.VISITOR) == visit.visitor) & (pc.field(Event.TYPE) == EventType.CLICK.value)
    ).num_rows
    findings.note("the next ingest_events archives the clicks", _unless(clicks, CLICKS, "clicks are there"))
    counted = _counted_interactions(settings, shopper_key(None, visit.visitor))
    findings.note("the next build_features counts them", _unless(counted, CLICKS, "interactions are counted"))


def _verify_end(settings: Settings, memory: MemoryWatch, findings: Findings) -> None:
    survivors = memory.survivors()
    findings.note("no process is left", f"still running: {', '.join(survivors)}" if survivors else None)
    findings.note("all ports are free again", _port_problem(settings))
    peak = f"{memory.peak / _GIB:.2f} GiB"
    findings.note(
        f"all processes together took {peak} of memory at most",
        None if memory.peak < MOST_MEMORY else f"that is more than {MOST_MEMORY / _GIB:.0f} GiB",
    )


def _port_problem(settings: Settings) -> str | None:
    try:
        require_free_ports(processes(settings))
    except InputError as error:
        return str(error)
    return None


def _model_problem(settings: Settings, told: Sequence[AssetEvent]) -> str | None:
    published = next((event.extra.get("version") for event in told if event.asset == "model"), None)
    live = current_version(settings.models_dir)
    if published is None:
        return "no asset event tells of a model"
    return None if published == live else f"the DAG published {published}, but {live} is live"


def _slate_problem(visit: Visit) -> str | None:
    if visit.of_kind_after > visit.of_kind_before:
        return None
    return (
        f"of {visit.liking.words} it held {visit.of_kind_before} items before and {visit.of_kind_after} after"
    )


def _served_problem(settings: Settings, visit: Visit) -> str | None:
    """The last slate's items have to be there, those that a source brought with features."""
    deadline = time.monotonic() + _ON_DISK_SECONDS
    served = []
    while time.monotonic() < deadline:
        folder = settings.served_dir / "items"
        if folder.exists():
            rows = pq.read_table(folder, filters=[(Served.REQUEST, "=", visit.after.request_id)])
            served = [row for row in rows.to_pylist() if row[Served.POSITION] is not None]
        if served:
            break
        time.sleep(_POLL_SECONDS)
    shown = tuple(row[Served.ITEM] for row in sorted(served, key=lambda row: row[Served.POSITION]))
    if shown != visit.after.items:
        return f"{len(shown)} of {len(visit.after.items)} items are there after {_ON_DISK_SECONDS:.0f} s"
    bare = [row[Served.ITEM] for row in served if row[Served.SOURCES] and row[Served.FEATURES] is None]
    return f"without features: {', '.join(bare)}" if bare else None


def _counted_interactions(settings: Settings, shopper: str) -> int:
    """Interactions of a shopper in the newest batch features."""
    moments = snapshots(settings.features_dir, View.USER_STATISTICS)
    if not moments:
        return 0
    rows = read_snapshot(settings.features_dir, View.USER_STATISTICS, moments[-1])
    rows = rows.filter(pc.field(SHOPPER_KEY) == shopper)
    return sum(round(float(np.expm1(value))) for value in rows["user_log_interactions"].to_pylist())


def _unless(found: int, wanted: int, what: str) -> str | None:
    return None if found == wanted else f"{found} {what}, not {wanted}"
