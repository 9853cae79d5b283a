"""``python -m tests.bench_served_log HOME``: what the served slates of a shop take of the disk, merged and before.

They are written beside, into a home of their own, as a server writes them that answers so many a second.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from feature_repo.schema import DAY, SECOND
from feature_repo.session_window import WindowEvent
from feature_repo.settings import Settings
from serving.bundle import Bundle
from serving.in_time.attempt import Rung
from serving.live_version import read_live_bundle
from serving.metrics import Metrics
from serving.query import Question
from serving.recommender import Recommender
from serving.served.request_id import new_request_id
from serving.served.served_log import ServedLog
from serving.served.served_slate import ServedItems, ServedSlate
from training.served_merge import merge_served

RATES: Final = (1, 10, 100)
"""Slates a second."""
SLATES: Final = 5000
ITEMS: Final = 20
WINDOW: Final = 5
"""Events of a shopper."""
CANDIDATES: Final = 300
START: Final = time.time_ns() // 1000 // DAY * DAY - 2 * DAY


def main(home: Path) -> None:
    """Print a line for each rate."""
    bundle = read_live_bundle(Settings(home=home).models_dir)
    for rate in RATES:
        with tempfile.TemporaryDirectory(prefix="freshet-served-") as folder:
            settings = Settings(home=Path(folder))
            write(bundle, settings, rate)
            before, files = on_disk(settings)
            started = time.perf_counter()
            merge_served(settings)
            seconds = time.perf_counter() - started
            after, merged = on_disk(settings)
        print(
            f"{rate} a second: {before / SLATES / 1024:.1f} KiB per slate in {files} files, "
            f"{after / SLATES / 1024:.1f} KiB in {merged} files, merged in {seconds:.1f} s",
            flush=True,
        )


def write(bundle: Bundle, settings: Settings, rate: int) -> None:
    """Have slates for windows drawn evenly from the items written."""
    draw = np.random.default_rng(0)
    recommender = Recommender(bundle, CANDIDATES)
    log = ServedLog(settings.served_dir, SLATES, settings.served_log_flush_seconds, Metrics())
    for number in range(SLATES):
        as_of = START + number * SECOND // rate
        visitor = f"visitor-{draw.integers(10**9)}"
        seen = draw.choice(bundle.item_ids, WINDOW)
        window = [WindowEvent(as_of - SECOND, str(number), "view", str(item)) for item in seen]
        question = Question(events=window, shopper_key=f"v:{visitor}", as_of=as_of, k=ITEMS)
        [slate] = recommender.recommend([question.encode(bundle)])
        log.put(
            ServedSlate(
                request_id=new_request_id(as_of),
                user_id=None,
                visitor_id=visitor,
                placement="home",
                model_version="v1",
                bundle="v1",
                question=question,
                candidates=CANDIDATES,
                catalog_state=None,
                activity_state=None,
                degraded=[],
                ranked_by=Rung.RANKERS,
                items=ServedItems.shown(slate, bundle),
            )
        )
        if (number + 1) % (rate * settings.served_log_flush_seconds) == 0:
            log._flush()
    log._flush()


def on_disk(settings: Settings) -> tuple[int, int]:
    """Bytes of the blocks that the served log takes, and its files."""
    files = list(settings.served_dir.rglob("*.parquet"))
    return sum(path.stat().st_blocks * 512 for path in files), len(files)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
