"""``make bench-training``: the seconds and memory that a million events take to import and to train on."""

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FRESHET = str(Path(sys.executable).with_name("freshet"))
SHOP = ("--events", "1000000", "--users", "60000", "--items", "20000", "--days", "90")


def main() -> None:
    """Print a line per command, and what `freshet train` prints."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "simulated"
        files = [f"--{name}={folder / name}.parquet" for name in ("events", "items")]
        print(f"{platform.machine()}, {os.cpu_count()} cores; freshet simulate {' '.join(SHOP)}\n")
        seconds = [run(command, home) for command in (["simulate", *SHOP], ["import", *files], ["train"])]
        print(f"\nimport and train: {sum(seconds[1:]) / 60:.1f} minutes")


def run(command: list[str], home: str) -> float:
    """Seconds that a subcommand took; prints them with the largest memory that any so far has taken."""
    started = time.perf_counter()
    subprocess.run([FRESHET, *command], env={**os.environ, "FRESHET_HOME": home}, check=True)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"freshet {command[0]}: {seconds:.0f} s, peak memory so far {peak:.2f} GiB\n", flush=True)
    return seconds


if __name__ == "__main__":
    main()
