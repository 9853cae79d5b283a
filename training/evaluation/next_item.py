"""The next item: what does a shopper take after each step of a session?"""

from dataclasses import replace

import numpy as np

from feature_repo.arrays import Int64
from feature_repo.encoded_log import EncodedLog
from feature_repo.session_features import IS_INTERACTION, UNKNOWN_ITEM
from feature_repo.settings import Settings
from training.evaluation.requests import Requests, met_before
from training.replay import Replay, replay, window_ttl


def next_item(log: EncodedLog, start: int, end: int, settings: Settings) -> Requests:
    """Every step of every session: what does a shopper who has met something before take next?

    The item of the newest interaction is excluded from the answer, and a repetition of it no target.
    """
    steps = _steps(log, start, end, settings)
    return Requests.wanting(steps.take(np.flatnonzero(interactions_before(steps))), met_before(log, start))


def first_item(log: EncodedLog, start: int, end: int, settings: Settings) -> Requests:
    """What does a shopper take who has met nothing before?"""
    steps = _steps(log, start, end, settings)
    return Requests.wanting(
        steps.take(np.flatnonzero(interactions_before(steps) == 0)), met_before(log, start)
    )


def never_met_item(log: EncodedLog, start: int, end: int, settings: Settings) -> Requests:
    """The steps that ``next_item`` leaves out: nobody had met what they want before ``start``."""
    steps = _steps(log, start, end, settings)
    return Requests.wanting(steps.take(np.flatnonzero(interactions_before(steps))), ~met_before(log, start))


def any_item(log: EncodedLog, start: int, end: int, settings: Settings) -> Requests:
    """The steps of ``next_item`` and of ``never_met_item`` together, as a shop sees them."""
    steps = _steps(log, start, end, settings)
    everything = np.ones(len(log.item_ids), dtype=bool)
    return Requests.wanting(steps.take(np.flatnonzero(interactions_before(steps))), everything)


def interactions_before(asked: Replay) -> Int64:
    """int64[n]: interactions that the shopper of each request had before it, however long ago."""
    log = asked.log
    before = np.append(0, np.cumsum(IS_INTERACTION[log.type] & (log.item != UNKNOWN_ITEM)))
    return before[asked.stop] - before[log.offsets()[asked.shopper]]


def _steps(log: EncodedLog, start: int, end: int, settings: Settings) -> Replay:
    """All requests of a replay, each excluding its window's newest item, whatever becomes of the window."""
    asked = replay(log, start, end, settings.window_size, window_ttl(settings))
    position = np.arange(len(asked.log))
    newest = np.maximum.accumulate(np.where(IS_INTERACTION[asked.log.type], position, -1))
    newest = np.append(-1, newest)[asked.stop]
    first = np.where(newest >= asked.start, newest, asked.stop)
    last = np.where(newest >= asked.start, newest + 1, asked.stop)
    return replace(asked, excluded=np.column_stack([first, last]))
