"""Events that could not be processed are shown with the reason, and can be processed again."""

import io

import pytest
from rich.console import Console

from feature_repo.archive import Archive
from feature_repo.event_log import EventLog, partition_of
from feature_repo.events import to_table
from feature_repo.settings import Settings
from tests.feature_repo.log_events import event
from training.stream.archiving import Archiving
from training.stream.consumer import Batches, Consumer
from training.stream.dead_letters import dead_letters, replay, show

pytestmark = pytest.mark.anyio

ANN = "u:ann"


class Refusing(Archiving):
    """An archive that takes nothing."""

    async def process(self, reader: object, batches: Batches) -> None:
        """See Group."""
        raise ValueError("not today")


def table_of(buried: object) -> str:
    console = Console(width=200, file=io.StringIO())
    show(buried, console)  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined]


async def test_what_the_archive_refused_is_shown_and_gets_there_when_it_is_replayed(
    log: EventLog, settings: Settings
) -> None:
    archive = Archive(settings.archive_dir)
    await log.append([event(1), event(2)])
    broken = Refusing(archive)
    await Consumer(broken, log.reader(broken.name, "one"), batch_size=10, patience=1).round()
    buried = await dead_letters(log)
    assert [letter.partition for letter in buried] == [partition_of(ANN, log.partitions)] * 2
    shown = table_of(buried)
    assert "archive" in shown
    assert "ValueError: not today" in shown
    assert '"event_id":"e001"' in shown
    assert await replay(log, broken) == 0
    assert len(await dead_letters(log)) == 2
    assert await replay(log, Archiving(archive)) == 2
    assert archive.read().equals(to_table([event(1), event(2)]))
    assert "no dead letters" in table_of(await dead_letters(log))


async def test_a_letter_is_replayed_to_its_own_group_alone(log: EventLog, settings: Settings) -> None:
    await log.append([event(1)])
    broken = Refusing(Archive(settings.archive_dir))
    await Consumer(broken, log.reader("another", "one"), batch_size=10, patience=1).round()
    assert await replay(log, Archiving(Archive(settings.archive_dir))) == 0
    assert len(await dead_letters(log)) == 1
