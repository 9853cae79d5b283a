"""A simulated shop whose truth is known: a log, a catalog and users, and how likely each choice was.

What the shoppers want is written in ``training.simulation.preferences``, formulas included; how they walk
through the shop in ``training.simulation.choices``; when they come in ``training.simulation.visits``.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.errors import InputError
from feature_repo.schema import DAY, SECOND, Event
from training.simulation.catalog import PERMANENT_PER_LEAF, catalog_table, make_catalog
from training.simulation.choices import walk
from training.simulation.log import History, event_log
from training.simulation.oracle import OracleScore, Truth, oracle_score
from training.simulation.preferences import make_preferences
from training.simulation.visits import make_identities, make_visits, user_table

END: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""End of a simulated log: fixed, so that a seed names one log for ever."""
EVENTS_PER_STEP: Final = 2.2
"""Measured: all events, impressions included, over choices."""


@dataclass(frozen=True, kw_only=True)
class ShopSize:
    """How large a shop to simulate. Raises InputError if too small."""

    users: int  # people, seven in ten of whom have an account
    items: int
    events: int  # met to about a tenth
    days: int

    def __post_init__(self) -> None:
        for name, fewest in (("users", 10), ("items", PERMANENT_PER_LEAF), ("events", 1000), ("days", 2)):
            if (value := getattr(self, name)) < fewest:
                raise InputError(f"{value} {name} are too few for a simulated shop: ask for {fewest} or more")


@dataclass(frozen=True)
class SimulatedShop:
    """What was written, and how well the truth itself predicts it."""

    folder: Path
    counts: dict[str, int]  # rows by what they are
    oracle: OracleScore

    @property
    def import_command(self) -> str:
        """The command that brings the shop into Freshet."""
        files = " ".join(f"--{name} {self.folder / name}.parquet" for name in ("events", "items", "users"))
        return f"freshet import {files} --shift-to-now"

    def to_text(self) -> str:
        """A short table, the oracle score and the next command."""
        rows = [f"  {name:<18}{count:>12,}" for name, count in self.counts.items()]
        score = self.oracle
        return "\n".join(
            [
                f"Simulated shop in {self.folder}",
                *rows,
                f"Oracle over {score.targets:,} next items of the last days: NDCG@10 {score.ndcg_at_10:.3f}, "
                f"MRR@20 {score.mrr_at_20:.3f}, Recall@20 {score.recall_at_20:.3f}",
                "Next:",
                f"  {self.import_command}",
            ]
        )


def simulate(folder: Path, size: ShopSize, *, seed: int, end: datetime = END) -> SimulatedShop:
    """Write ``events.parquet``, ``items.parquet``, ``users.parquet`` and ``truth.npz`` into ``folder``.

    The log covers the ``size.days`` before ``end``. The same arguments write the same bytes.
    """
    rng = np.random.default_rng(seed)
    stop = int(end.timestamp()) * SECOND
    start = stop - size.days * DAY
    catalog = make_catalog(size.items, start, stop, rng)
    preferences = make_preferences(catalog, size.users, start, size.days, rng)
    visits = make_visits(size.users, size.events / EVENTS_PER_STEP, start, size.days, rng)
    identities = make_identities(visits, rng)
    steps = walk(preferences, catalog, visits, rng)
    log, event_step = event_log(History(preferences, catalog, visits, identities, steps, stop), rng)
    people = user_table(identities, preferences.shopper_price_level, rng)
    truth = Truth(catalog.item_ids, preferences, steps.states, steps.item, event_step)

    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("events", log), ("items", catalog_table(catalog, rng)), ("users", people)):
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    truth.save(folder / "truth.npz")
    by_type = {row["values"]: row["counts"] for row in pc.value_counts(log[Event.TYPE]).to_pylist()}
    counts = {
        "items": size.items,
        "users": people.num_rows,
        "events": log.num_rows,
        **dict(sorted(by_type.items(), key=lambda pair: -pair[1])),
    }
    return SimulatedShop(folder, counts, oracle_score(truth))
