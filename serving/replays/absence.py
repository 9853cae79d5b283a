"""Why an item is not in a slate: the first stage of the recommender that lost it."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple

from feature_repo.item_activity import Activity
from serving.in_time.attempt import UNHURRIED, Attempt
from serving.plan import FOR_ANYTHING, Plan
from serving.query import Filters, Query, Question, Slate
from serving.recommender import Recommender
from serving.retrieval import retrieve


class Stage(StrEnum):
    """Where an item was lost, in the order of the stages, or that it was not."""

    SHOWN = "shown"
    UNKNOWN = "unknown"
    NOT_GIVEN = "not_given"
    UNAVAILABLE = "unavailable"
    EXCLUDED = "excluded"
    FILTERED = "filtered"
    NOT_FOUND = "not_found"
    CUT = "cut"
    OUTRANKED = "outranked"
    RULED_OUT = "ruled_out"


class Fate(NamedTuple):
    """What became of an item, and why, as a person would say it."""

    stage: Stage
    reason: str


@dataclass(frozen=True)
class Answer:
    """A slate and all that it was made of."""

    recommender: Recommender
    question: Question
    activity: Activity
    attempt: Attempt
    query: Query
    slate: Slate

    @classmethod
    def of(
        cls, recommender: Recommender, question: Question, activity: Activity, attempt: Attempt = UNHURRIED
    ) -> "Answer":
        """The answer of a recommender to a question, when items have this ``activity``."""
        query = question.encode(recommender.bundle, activity)
        [slate] = recommender.recommend([query], attempt)
        return cls(recommender, question, activity, attempt, query, slate)

    def with_plan(self, plan: Plan, k: int) -> Slate:
        """The slate, of ``k`` items, that another plan would make."""
        question = replace(self.question, plan=plan, k=k)
        query = question.encode(self.recommender.bundle, self.activity)
        [slate] = self.recommender.recommend([query], self.attempt)
        return slate


def fate_of(item_id: str, answer: Answer) -> Fate:
    """What became of an item."""
    bundle = answer.recommender.bundle
    item = bundle.item_index.get(item_id)
    if item is None:
        return Fate(Stage.UNKNOWN, f"model {bundle.manifest.version} does not know it")
    places = (answer.slate.items == item).nonzero()[0]
    if places.size:
        rule = answer.slate.placed_by[places[0]]
        return Fate(
            Stage.SHOWN, f"it is at place {places[0] + 1}" + (f", by the rule {rule}" if rule else "")
        )
    lost = _not_admitted(item_id, item, answer) or _not_found(item, answer)
    return lost or _not_chosen(item, answer)


def _not_admitted(item_id: str, item: int, answer: Answer) -> Fate | None:
    query = answer.query
    if query.given is not None:
        return (
            None if item in query.given else Fate(Stage.NOT_GIVEN, "it is not among the items of the caller")
        )
    if not answer.recommender.bundle.availability.available[item]:
        return Fate(Stage.UNAVAILABLE, "it was not available")
    if item in query.excluded:
        return Fate(Stage.EXCLUDED, _why_excluded(item_id, item, answer))
    if query.allowed is not None and not query.allowed[item]:
        return Fate(Stage.FILTERED, f"it does not pass {' and '.join(_failed(item, answer))}")
    return None


def _why_excluded(item_id: str, item: int, answer: Answer) -> str:
    question = answer.question
    if item_id in question.context_items:
        return "it is what the page shows"
    if item_id in question.cart:
        return "it is in the cart"
    if item not in replace(question, repeat_last=True).encode(answer.recommender.bundle).excluded:
        return "the shopper's newest interaction was with it"
    return "the listing has shown it"


def _failed(item: int, answer: Answer) -> Iterator[str]:
    """The filters of the request, and what the placement asks of items, that an item alone does not pass."""
    bundle, question = answer.recommender.bundle, answer.question
    asked = {
        f"the request's {name}": replace(question, filters=Filters(**{name: value}), plan=FOR_ANYTHING)
        for name, value in _set(question.filters, Filters())
    } | {
        f"the placement's {_WORDS.get(name, name)}": replace(
            question, filters=Filters(), plan=replace(FOR_ANYTHING, **{name: value})
        )
        for name, value in _set(question.plan, FOR_ANYTHING)
    }
    for name, alone in asked.items():
        allowed = alone.encode(bundle).allowed
        if allowed is not None and not allowed[item]:
            yield name


def _set(values: Filters | Plan, unset: Filters | Plan) -> Iterator[tuple[str, Any]]:
    """Names and values of the fields that are not as they are when nothing is said."""
    for field in fields(values):
        if getattr(values, field.name) != getattr(unset, field.name):
            yield field.name, getattr(values, field.name)


def _not_found(item: int, answer: Answer) -> Fate | None:
    query, recommender = answer.query, answer.recommender
    if query.given is not None:
        return None
    interest = recommender.encode(query)
    everything = len(recommender.bundle.item_ids)
    found = retrieve(recommender.bundle, query, interest, everything, answer.attempt).items
    if item not in found:
        return Fate(Stage.NOT_FOUND, "none of the placement's sources brought it")
    place = int((found == item).nonzero()[0][0]) + 1
    if place > recommender.candidates:
        cut = f"at place {place} of {found.size}, and only the first {recommender.candidates} are ranked"
        return Fate(Stage.CUT, f"the sources together had it {cut}")
    return None


def _not_chosen(item: int, answer: Answer) -> Fate:
    plan, slate = answer.query.plan, answer.slate
    size = answer.slate.candidates.items.size
    by_merit = answer.with_plan(replace(plan, caps={}, diversity=0.0, pins={}, exploration=None), size)
    places = (by_merit.items == item).nonzero()[0]
    if not places.size:
        return Fate(
            Stage.RULED_OUT, "it was only there to be drawn for a place of new items, and was not drawn"
        )
    place = int(places[0])
    ranked = f"it is ranked at place {place + 1} of {size}"
    if place >= slate.items.size:
        return Fate(Stage.OUTRANKED, f"{ranked}, and the slate has {slate.items.size}")
    guilty = [
        name
        for name, without in _without_a_rule(plan)
        if item in answer.with_plan(without, answer.query.k).items
    ]
    return Fate(Stage.RULED_OUT, f"{ranked}, but kept out by {' or '.join(guilty) or TOGETHER}")


_WORDS: Final = {"allowed": "filter"}
"""What a part of the plan is called where placements are declared, if not alike."""
TOGETHER: Final = "the rules of the placement together"


def _without_a_rule(plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Each rule that may keep an item out, and the plan without it."""
    for group in plan.caps:
        caps = {other: most for other, most in plan.caps.items() if other != group}
        yield f"the cap of {plan.caps[group]} per {group}", replace(plan, caps=caps)
    if plan.diversity:
        yield f"the diversity of {plan.diversity:g}", replace(plan, diversity=0.0)
    if plan.pins:
        yield "what is pinned", replace(plan, pins={})
    if plan.exploration:
        yield "new items that were drawn", replace(plan, exploration=None)
