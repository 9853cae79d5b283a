"""Freshet's commands, as the benchmarks run them to make a shop."""

import subprocess
from pathlib import Path

from tests.bench_server import FRESHET


def freshet(command: list[str], environment: dict[str, str]) -> None:
    """Run a subcommand; its output is shown only if it fails."""
    done = subprocess.run([FRESHET, *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def make_shop(environment: dict[str, str], epochs: int, *size: str) -> Path:
    """Simulate a shop in FRESHET_HOME and train on it; returns the folder of its files."""
    folder = Path(environment["FRESHET_HOME"]) / "simulated"
    files = [f"--{name}={folder / name}.parquet" for name in ("events", "items")]
    for command in (
        ["simulate", *size],
        ["import", *files, "--shift-to-now"],
        ["train", "--epochs", str(epochs)],
    ):
        print("freshet", *command, flush=True)
        freshet(command, environment)
    return folder
