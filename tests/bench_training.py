"""``make bench-training``: seconds and memory that logs of up to a million events take to import and train on."""

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FRESHET = str(Path(sys.executable).with_name("freshet"))
SIZES = (100_000, 300_000, 1_000_000)
"""Events; a shop has an item for 25 of them and a shopper for 16."""
DAYS = 90


def main() -> None:
    """Print a row per size."""
    print(f"{platform.machine()}, {os.cpu_count()} cores\n")
    print(
        f"{'events':>10}{'items':>8}{'import s':>10}{'train s':>9}{'us/event':>10}{'peak GiB':>10}",
        flush=True,
    )
    for events in SIZES:
        with tempfile.TemporaryDirectory() as home:
            print(row(events, home), flush=True)


def row(events: int, home: str) -> str:
    """The row of one size. The peak is the largest of this and the smaller sizes."""
    items = events // 25
    shop = {"events": events, "users": events // 16, "items": items, "days": DAYS}
    files = {name: Path(home) / "simulated" / f"{name}.parquet" for name in ("events", "items")}
    run(home, "simulate", shop)
    imported, trained = run(home, "import", files), run(home, "train", {})
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    each = (imported + trained) / events * 1e6
    return f"{events:>10,}{items:>8,}{imported:>10.0f}{trained:>9.0f}{each:>10.0f}{peak:>10.2f}"


def run(home: str, command: str, options: dict[str, int] | dict[str, Path]) -> float:
    """Seconds that a subcommand took; what it prints is shown if it fails."""
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    started = time.perf_counter()
    done = subprocess.run(
        [FRESHET, command, *arguments],
        env={**os.environ, "FRESHET_HOME": home},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
