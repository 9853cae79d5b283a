"""The memory formula agrees with a server."""

from pathlib import Path

import pytest

from feature_repo.settings import Settings
from tests.bench_memory import TOLERANCE, Known, Shop, measured


@pytest.mark.integration
@pytest.mark.parametrize(
    "shop",
    [
        Shop(4000, events=4, impressions=2),
        Shop(60, events=80, impressions=220),
        Shop(200, events=0, impressions=100),
    ],
)
def test_the_formula_is_near_what_redis_takes(shop: Shop, tmp_path: Path) -> None:
    assert shop.predicted(Settings()) == pytest.approx(measured(shop, tmp_path), rel=TOLERANCE)


@pytest.mark.integration
@pytest.mark.parametrize("known", [Known(2000, width=64), Known(1000, width=256)])
def test_the_formula_of_online_features_is_near_what_redis_takes(known: Known, tmp_path: Path) -> None:
    assert known.predicted() == pytest.approx(known.measured(tmp_path), rel=TOLERANCE)
