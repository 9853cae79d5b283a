"""Freshet's commands, as the benchmarks run them to make a shop."""

import subprocess

from tests.bench_server import FRESHET


def freshet(command: list[str], environment: dict[str, str]) -> None:
    """Run a subcommand; its output is shown only if it fails."""
    done = subprocess.run([FRESHET, *command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
