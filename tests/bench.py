"""``make bench``: what ingestion and recommendation cost on this machine, beside the bare HTTP floor.

Simulates a shop, trains on it, starts the real server and asks it over loopback from another process. Machines
differ and are shared: compare the rows of one run.
"""

import itertools
import os
import sys
import tempfile

import pyarrow.parquet as pq

from feature_repo.schema import Item
from tests import bench_click, bench_ingest
from tests.bench_load import Load, one_after_another
from tests.bench_server import FRESHET, PATIENTLY, running
from tests.bench_setup import make_shop
from tests.bench_table import print_header, print_machine, print_row


def nothing(_: int) -> None:
    """The body of a GET."""


LOADS = {
    "no-op (GET /healthz)": Load("/healthz", nothing),
    "recommendation, 20 items": Load("/v1/recommendations", bench_click.question),
}


def main() -> int:
    """Print the tables; returns 1 when a slate missed a click or an event costs more than it may, else 0."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "FRESHET_HOME": home, **PATIENTLY}
        folder = make_shop(environment, 3)
        items = pq.read_table(folder / "items.parquet")[Item.ID].to_pylist()
        print_machine()
        print_header(f"slates of {len(items)} items")
        with running([FRESHET, "serve"], environment) as server:
            for (name, load), clients in itertools.product(LOADS.items(), (1, 8)):
                print_row(name, str(clients), one_after_another(server.port, load, clients))
            all_changed = bench_click.measure(server.port, items)
        within_bounds = bench_ingest.measure(environment)
    return 0 if all_changed and within_bounds else 1


if __name__ == "__main__":
    sys.exit(main())
