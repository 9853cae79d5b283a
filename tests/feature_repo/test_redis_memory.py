"""The memory formula agrees with a server."""

from pathlib import Path

import pytest

from feature_repo.settings import Settings
from tests.bench_memory import TOLERANCE, Shop, measured


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
