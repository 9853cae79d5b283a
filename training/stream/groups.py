"""All groups that consume the event log."""

from feature_repo.archive import Archive
from feature_repo.settings import Settings
from training.stream.archiving import Archiving
from training.stream.consumer import Group
from training.stream.counting import Counting


def groups(settings: Settings) -> list[Group]:
    """One of each."""
    return [Archiving(Archive(settings.archive_dir)), Counting()]
