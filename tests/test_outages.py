"""The short version of ``make outages``, on a real server and a real Redis; times need a machine of one's own."""

from pathlib import Path

import pytest

from tests.faulty_server import SOURCE
from tests.outages import ABOVE, outages, prepare

pytestmark = [pytest.mark.slow, pytest.mark.integration]


def test_no_slate_fails_while_redis_a_source_or_a_bundle_does(tmp_path: Path) -> None:
    prepare(tmp_path)
    outcome = dict(outages(tmp_path, 4.0))
    above = outcome.pop(ABOVE)
    assert {name: set(answers.statuses) for name, answers in outcome.items()} == {
        name: {200} for name in outcome
    }
    assert outcome["Redis is killed, and comes back"].degraded["session_window"] > 0
    assert outcome["a source hangs"].degraded[SOURCE] > 0
    assert set(above.statuses) <= {200, 503}
    assert above.come_again == above.statuses[503]
