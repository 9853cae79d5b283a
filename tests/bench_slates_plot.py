"""The table of slates as a picture."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from feature_repo.arrays import Float64


@dataclass(frozen=True)
class Costs:
    """Milliseconds of each part of the floor, of a slate and of Feast's read; seconds of slates, by who asked."""

    floor: Mapping[str, float]
    slate: float
    feast: float
    latencies: Mapping[str, Float64]


def plot_costs(costs: Costs) -> bytes:
    """PNG: a slate beside its floor and Feast's read, and how latencies grow with who asks at once."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    beside, under_load = figure.subplots(ncols=2)
    start = 0.0
    for name, took in costs.floor.items():
        beside.barh("floor", took, left=start, label=name)
        start += took
    beside.barh("slate", costs.slate, color="tab:purple")
    beside.barh("Feast's read", costs.feast, color="tab:gray")
    for place, took in enumerate((start, costs.slate, costs.feast)):
        beside.text(took, place, f" {took:.2f}", va="center")
    beside.invert_yaxis()
    beside.set(xlabel="milliseconds, median", title="One slate, one client")
    beside.margins(x=0.12)
    beside.legend(loc="upper right")

    for quantile in (0.5, 0.9, 0.99):
        latencies = [float(np.quantile(found, quantile)) * 1000 for found in costs.latencies.values()]
        under_load.plot(
            list(costs.latencies), latencies, marker="o", linestyle=":", label=f"p{quantile * 100:.0f}"
        )
    under_load.set(yscale="log", ylabel="milliseconds", title="As many clients, or shoppers a second")
    under_load.grid(alpha=0.3)
    under_load.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()
