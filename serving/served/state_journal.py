"""State journals: what lay over a model's items at any moment of the last days, so that requests can be replayed.

    replay/catalog/date=2025-06-01/<layer>/<step>.arrow

A layer belongs to one bundle. It begins, at step 0, with all rows in which the items differ from the bundle; each
step after it brings the rows that changed. A state is named ``<layer>.<step>``: all rows up to this step, of each
item the last.
"""

import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather

from feature_repo.durable_file import replace_file
from feature_repo.errors import GoneError
from serving.served.date_folder import folder_of

LAYER_SECONDS: Final = 3600.0
"""A layer begins anew after so long: to read a state takes the files of no more."""
STEP: Final = "step"
CATALOG: Final = "catalog"
"""Folder of the states of availability and prices."""
ACTIVITY: Final = "activity"
"""Folder of the states of the items' activity."""

Rows = Callable[[], pa.Table]


class StateJournal:
    """Writes states of one kind below ``folder``: what is noted waits for ``write``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: deque[tuple[str, int, pa.Table]] = deque()

    def layer(self, all_rows: Rows) -> "StateLayer":
        """A layer to begin; ``all_rows`` tells at any time in which rows the items differ from their bundle."""
        return StateLayer(self._waiting, all_rows)

    def write(self) -> None:
        """Write what waits, a file for each layer. Raises OSError; what was lost then makes states unreadable."""
        layers: dict[str, list[tuple[int, pa.Table]]] = defaultdict(list)
        while self._waiting:
            layer, step, rows = self._waiting.popleft()
            layers[layer].append(
                (step, rows.add_column(0, STEP, pa.array(np.full(len(rows), step, np.int32))))
            )
        for layer, steps in layers.items():
            content = pa.BufferOutputStream()
            table = pa.concat_tables([rows for _, rows in steps]).combine_chunks()
            pyarrow.feather.write_feather(table, content, compression="zstd")
            replace_file(_path(self._folder, layer) / f"{steps[0][0]:09}.arrow", content.getvalue())


class StateLayer:
    """The states of one bundle's items; ``state`` names the newest, None while nothing is certain."""

    def __init__(self, waiting: deque[tuple[str, int, pa.Table]], all_rows: Rows) -> None:
        self.state: str | None = None
        self._waiting = waiting
        self._all_rows = all_rows

    def begin(self) -> None:
        """Write down all rows as they are."""
        self._name = f"{time.time_ns() // 1000}-{token_hex(4)}"
        self._began = time.monotonic()
        self._step = -1
        self._put(self._all_rows())

    def note(self, rows: pa.Table) -> None:
        """Write down rows that changed just now."""
        if not self.renew():
            self._put(rows)

    def renew(self) -> bool:
        """Begin anew where it is time to; returns whether it was."""
        old = time.monotonic() - self._began > LAYER_SECONDS
        if old:
            self.begin()
        return old

    def _put(self, rows: pa.Table) -> None:
        self._step += 1
        self._waiting.append((self._name, self._step, rows))
        self.state = f"{self._name}.{self._step}"


def read_state(folder: Path, state: str) -> pa.Table:
    """The rows of a state, in their order, with STEP as the first column. Raises GoneError."""
    layer, _, step = state.rpartition(".")
    last = int(step)
    files = [path for path in sorted(_path(folder, layer).glob("[0-9]*.arrow")) if int(path.stem) <= last]
    tables = [pyarrow.feather.read_table(path, memory_map=False) for path in files]
    if not files or int(files[0].stem) > 0:
        raise GoneError(f"state {state} of the {folder.name} is gone")
    rows = pa.concat_tables(tables)
    rows = rows.filter(pc.less_equal(rows[STEP], last))
    if len(np.setdiff1d(np.arange(1, last + 1), rows[STEP].to_numpy())):
        raise GoneError(
            f"state {state} of the {folder.name} is not whole: a disk was full, or a server was killed"
        )
    return rows


def _path(folder: Path, layer: str) -> Path:
    return folder / folder_of(int(layer.partition("-")[0])) / layer
