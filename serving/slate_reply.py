"""What a reply says of a slate: its items, what follows them, and how old what they were computed from is."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Final

from feature_repo.arrays import Float32
from feature_repo.event_log import Shopper
from feature_repo.ranking_features import SOURCES
from feature_repo.schema import SECOND
from serving.bundle import Bundle, Manifest
from serving.calibration import UNCALIBRATED, Calibration
from serving.explanation import Explanation
from serving.in_time.attempt import Rung
from serving.plan import Plan, RankedBy
from serving.query import Slate
from serving.replies import FeatureAge, FeatureContribution, ItemExplanation, SlateItem
from serving.reranking import MAX_SHOWN, PageToken
from serving.served.served_slate import ServedItems
from serving.sources.popularity import popular

FILL: Final = popular.__name__
"""Where items come from that lengthen a slate whose candidates ran out."""


def feature_age(manifest: Manifest, shopper: Shopper, activity: float | None, as_of: int) -> FeatureAge:
    """How old, at ``as_of``, is what was known of a shopper and of the items; ``activity`` is known already."""
    user = shopper.features.computed_at if shopper.features else manifest.created
    session = shopper.window[-1].timestamp if shopper.window else as_of
    return FeatureAge(
        user=max(as_of - user, 0) / SECOND,
        item=(as_of - manifest.created) / SECOND,
        activity=activity,
        session=max(as_of - session, 0) / SECOND,
    )


def next_page(page: PageToken | None, shown: ServedItems, model_version: str) -> str | None:
    """Text of the token for what comes after the shown items of a page; None where no listing is that long."""
    before = page or PageToken(model_version, ())
    if len(before.shown) + len(shown.item_ids) >= MAX_SHOWN:
        return None
    return before.after(model_version, shown.item_ids.tolist()).encode()


def calibration_of(slate: Slate, plan: Plan, bundle: Bundle) -> Calibration:
    """What makes the slate's scores probabilities: curves for those that the rankers alone gave."""
    by_rankers = slate.ranked_by == Rung.RANKERS and plan.ranked_by == RankedBy.RANKERS
    return bundle.calibration if by_rankers else UNCALIBRATED


def slate_items(shown: ServedItems, calibration: Calibration) -> list[SlateItem]:
    """The items of a slate as a reply has them."""
    scores = shown.ranked_scores()
    rows = zip(
        shown.item_ids,
        shown.scores.tolist(),
        shown.brought.tolist(),
        shown.propensity.tolist(),
        shown.placed_by,
        _numbers(calibration.click(scores)),
        _numbers(calibration.purchase(scores)),
        strict=True,
    )
    return [
        SlateItem(
            item_id=item_id,
            score=score,
            position=position,
            sources=list(compress(SOURCES, brought)) or ([] if placed_by else [FILL]),
            propensity=propensity,
            placed_by=placed_by,
            click_probability=click,
            purchase_probability=purchase,
        )
        for position, (item_id, score, brought, propensity, placed_by, click, purchase) in enumerate(rows, 1)
    ]


def explained(
    items: Sequence[SlateItem], explanations: Sequence[Explanation], bundle: Bundle
) -> list[SlateItem]:
    """The items, each with its explanation."""
    return [
        replace(item, explanation=_explanation(explanation, bundle))
        for item, explanation in zip(items, explanations, strict=True)
    ]


def _explanation(explanation: Explanation, bundle: Bundle) -> ItemExplanation:
    because_of = explanation.reason.item
    return ItemExplanation(
        reason=explanation.reason.text,
        because_of=None if because_of is None else bundle.item_ids[because_of],
        contributions=[
            FeatureContribution(
                feature=one.feature,
                value=None if math.isnan(one.value) else one.value,
                contribution=one.contribution,
            )
            for one in explanation.contributions
        ],
    )


def _numbers(values: Float32) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
