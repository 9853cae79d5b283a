"""The simulated shop: its log is possible, its truth is true, and there is something to learn from it."""

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare
from typer.testing import CliRunner

from feature_repo.errors import InputError
from feature_repo.schema import DAY, EVENT_SCHEMA, ITEM_SCHEMA, MINUTE, Event, EventType, Item, User
from training.cli import app
from training.simulation.catalog import LEAVES, make_catalog
from training.simulation.choices import EXAMINATION, LEAVE_SLATE, SLATE_SIZE, Steps, choose, draw_slate
from training.simulation.oracle import Truth, oracle_score
from training.simulation.preferences import (
    BRAND,
    DRIFT,
    EMPTY,
    FAVOURITE,
    FRESH_WEIGHT,
    INTENT_1,
    INTENT_2,
    NEAR,
    PRICE,
    Preferences,
    make_preferences,
)
from training.simulation.simulate import END, ShopSize, simulate
from training.simulation.visits import SESSION_GAP, Visits

SIZE = ShopSize(users=1500, items=300, events=20_000, days=30)
TINY = ShopSize(users=50, items=40, events=2_000, days=5)
START = int((END - timedelta(days=SIZE.days)).timestamp()) * 1_000_000
PERSON = "person"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    simulate(folder, SIZE, seed=7)
    return folder


@pytest.fixture(scope="module")
def events(folder: Path) -> pd.DataFrame:
    """The log, with the number of the person behind each event."""
    events = pd.read_parquet(folder / "events.parquet")
    known = events[[Event.USER, Event.VISITOR]].dropna().drop_duplicates()
    user_of = known.set_index(Event.VISITOR)[Event.USER]
    events[PERSON] = (
        events[Event.USER].fillna(events[Event.VISITOR].map(user_of)).fillna(events[Event.VISITOR])
    )
    return events


@pytest.fixture(scope="module")
def items(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "items.parquet").set_index(Item.ID)


@pytest.fixture(scope="module")
def truth(folder: Path) -> Truth:
    return Truth.load(folder / "truth.npz")


def of_type(events: pd.DataFrame, *event_types: EventType) -> pd.DataFrame:
    return events[events[Event.TYPE].isin([event_type.value for event_type in event_types])]


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("again", 3), ("other", 4)):
        simulate(tmp_path / name, TINY, seed=seed)
    for file in ("events.parquet", "items.parquet", "users.parquet", "truth.npz"):
        one, again, other = ((tmp_path / name / file).read_bytes() for name in ("one", "again", "other"))
        assert one == again
        assert one != other


def test_the_files_have_the_columns_of_the_schema_and_about_the_size_asked_for(
    events: pd.DataFrame, items: pd.DataFrame
) -> None:
    assert list(events.columns.drop(PERSON)) == EVENT_SCHEMA.names
    assert [items.index.name, *items.columns] == ITEM_SCHEMA.names
    assert len(items) == SIZE.items
    assert len(events) == pytest.approx(SIZE.events, rel=0.2)
    assert set(events[Event.TYPE]) == {event_type.value for event_type in EventType} - {"redeem"}


def test_events_lie_within_the_log_in_the_order_of_their_ids(events: pd.DataFrame) -> None:
    assert events[Event.ID].is_monotonic_increasing
    assert events[Event.ID].is_unique
    assert events[Event.TIMESTAMP].is_monotonic_increasing
    assert events[Event.TIMESTAMP].min() >= END - timedelta(days=SIZE.days)
    assert events[Event.TIMESTAMP].max() < END


def test_no_shopper_does_two_things_at_one_time_and_no_session_has_a_long_pause(
    events: pd.DataFrame,
) -> None:
    apart = events.groupby(PERSON)[Event.TIMESTAMP].diff().dropna()
    assert apart.min() > timedelta(0)
    in_session = events.groupby(Event.SESSION)[Event.TIMESTAMP].diff().dropna()
    assert in_session.max() < timedelta(microseconds=SESSION_GAP)
    by_session = events.groupby(Event.SESSION)
    assert (by_session[PERSON].nunique() == 1).all()
    sessions = by_session.agg(
        person=(PERSON, "first"), start=(Event.TIMESTAMP, "min"), end=(Event.TIMESTAMP, "max")
    )
    sessions = sessions.sort_values(["person", "start"])
    pause = sessions["start"] - sessions.groupby("person")["end"].shift()
    assert pause.min() > timedelta(microseconds=SESSION_GAP)


def test_no_item_is_touched_before_it_arrives_and_a_fifth_arrive_during_the_log(
    events: pd.DataFrame, items: pd.DataFrame
) -> None:
    touched = events.dropna(subset=[Event.ITEM])
    created = touched[Event.ITEM].map(items[Item.CREATED_AT])
    assert created.notna().all()
    assert (touched[Event.TIMESTAMP] >= created).all()
    arrives = (items[Item.CREATED_AT] >= END - timedelta(days=SIZE.days)).mean()
    assert 0.08 < arrives < 0.25
    assert items[Item.CREATED_AT].max() < END


def test_every_leaf_of_the_category_tree_has_items_and_believable_words(items: pd.DataFrame) -> None:
    paths = {path: noun for path, noun, _ in LEAVES}
    assert set(items[Item.CATEGORY]) <= set(paths)
    assert items[Item.CATEGORY].nunique() > 20
    for title, category, brand in zip(
        items[Item.TITLE], items[Item.CATEGORY], items[Item.BRAND], strict=True
    ):
        assert paths[category] in title
        assert brand in title
    assert (items[Item.PRICE] > 0).all()


def test_a_visitor_becomes_one_user_at_most_and_stays_so(events: pd.DataFrame, folder: Path) -> None:
    both = events.dropna(subset=[Event.USER, Event.VISITOR])
    assert (both.groupby(Event.VISITOR)[Event.USER].nunique() == 1).all()
    assert (both.groupby(Event.USER)[Event.VISITOR].nunique() == 1).all()
    seen = events.dropna(subset=[Event.VISITOR])
    logged_in = seen[Event.USER].notna()
    assert (logged_in.groupby(seen[Event.VISITOR]).cummax() == logged_in).all()
    share = logged_in.groupby(seen[Event.VISITOR]).mean().to_numpy()
    assert (share == 0).any()
    assert (share == 1).any()
    assert ((share > 0) & (share < 1)).any()
    assert set(events[Event.USER].dropna()) <= set(pd.read_parquet(folder / "users.parquet")[User.ID])


def test_a_purchase_follows_the_cart_and_the_view_and_costs_what_the_catalog_says(
    events: pd.DataFrame, items: pd.DataFrame
) -> None:
    key = [Event.SESSION, Event.ITEM]
    earliest = {
        event_type: of_type(events, event_type).groupby(key)[Event.TIMESTAMP].min()
        for event_type in (EventType.VIEW, EventType.CLICK, EventType.ADD_TO_CART)
    }
    seen = pd.concat([earliest[EventType.VIEW], earliest[EventType.CLICK]]).groupby(level=[0, 1]).min()
    bought = of_type(events, EventType.PURCHASE)
    in_cart = earliest[EventType.ADD_TO_CART].reindex(pd.MultiIndex.from_frame(bought[key]))
    viewed = seen.reindex(in_cart.index)
    assert (viewed.to_numpy() < in_cart.to_numpy()).all()
    assert (in_cart.to_numpy() < bought[Event.TIMESTAMP].to_numpy()).all()
    assert (bought[Event.PRICE] == bought[Event.ITEM].map(items[Item.PRICE])).all()
    assert set(of_type(events, EventType.RATE)[Event.VALUE]) <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_a_click_was_shown_before_in_the_same_request_at_the_same_position(events: pd.DataFrame) -> None:
    key = [Event.REQUEST, Event.POSITION, Event.ITEM, PERSON]
    shown = of_type(events, EventType.IMPRESSION).set_index(key)[Event.TIMESTAMP]
    assert shown.index.is_unique
    clicks = of_type(events, EventType.CLICK)
    assert clicks[Event.REQUEST].is_unique
    at = shown.reindex(pd.MultiIndex.from_frame(clicks[key])).to_numpy()
    assert (at < clicks[Event.TIMESTAMP].to_numpy()).all()


def test_equally_attractive_items_are_clicked_by_how_much_their_position_is_looked_at() -> None:
    slates = 40_000
    equal = np.zeros((slates, SLATE_SIZE), np.float32)
    shown, clicked = draw_slate(equal, equal, np.random.default_rng(0))
    per_position = (shown == clicked[:, None]).mean(axis=0)
    share = EXAMINATION / SLATE_SIZE
    np.testing.assert_allclose(per_position, share / (share.sum() + LEAVE_SLATE), atol=0.01)
    assert (np.diff(per_position) < 0).all()


def test_true_probabilities_sum_to_one_and_are_zero_for_items_not_on_sale(
    truth: Truth, events: pd.DataFrame, items: pd.DataFrame
) -> None:
    some = of_type(events, EventType.VIEW, EventType.CLICK, EventType.PURCHASE, EventType.RATE)[::37]
    scores = truth.scores(list(some[Event.ID]))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    views = some[Event.TYPE] == "view"
    created = items[Item.CREATED_AT].loc[list(truth.item_ids)].to_numpy()
    too_early = some[Event.TIMESTAMP].to_numpy()[views, None] < created
    assert too_early.any()
    assert (scores[views][too_early] == 0).all()
    chosen = pd.Index(truth.item_ids).get_indexer(pd.Index(some[Event.ITEM]))
    assert (scores[np.arange(len(some)), chosen] > 0).all()


def test_the_log_chooses_the_likeliest_item_as_often_as_the_truth_says(
    truth: Truth, events: pd.DataFrame
) -> None:
    views = of_type(events, EventType.VIEW)
    scores = truth.scores(list(views[Event.ID]))
    likeliest = scores.max(axis=1)
    chosen = pd.Index(truth.item_ids).get_indexer(pd.Index(views[Event.ITEM]))
    hits = np.sum(scores[np.arange(len(views)), chosen] == likeliest)
    deviation = np.sqrt(np.sum(likeliest * (1 - likeliest)))
    assert abs(hits - likeliest.sum()) < 4 * deviation


@dataclass(frozen=True)
class Crowd:
    """Many copies of one shopper in a tiny shop, all in the same state."""

    preferences: Preferences
    steps: Steps


def crowd(size: int, *, started: bool) -> Crowd:
    rng = np.random.default_rng(5)
    catalog = make_catalog(36, START, START + 10 * DAY, rng)
    preferences = make_preferences(catalog, 1, START, 10, rng)
    same = np.zeros(size, np.int32)
    at = np.full(size, START + 5 * DAY + MINUTE)
    steps = Steps.empty(Visits(same, same, same == 0, at, at, shoppers=1))
    state = steps.states
    state.intent[:] = [1, 2]
    state.memory[:, :3] = always_on_sale = preferences.leaf_start[[1, 2, 0]]
    state.keenness[:, :3] = [1, 3, 1]
    state.started[:] = started
    state.style[:] = preferences.style[always_on_sale[0]] / 2 if started else 0
    return Crowd(preferences, steps)


@pytest.mark.parametrize("started", [False, True])
def test_choices_from_one_state_are_as_frequent_as_the_truth_says(*, started: bool) -> None:
    draws = 60_000
    tiny = crowd(draws, started=started)
    choose(tiny.preferences, tiny.steps, np.arange(draws), np.random.default_rng(6))

    taken = tiny.steps.item[tiny.steps.shown[:, 0] == EMPTY]
    truth = tiny.preferences.probabilities(tiny.steps.states.take(np.arange(1)))[0]
    expected = truth.astype(np.float64) * len(taken)
    observed = np.bincount(taken, minlength=len(expected))
    assert (observed[expected == 0] == 0).all()
    assert (expected[tiny.steps.states.memory[0, 0]] == 0) == started
    frequent = expected > 5
    observed = np.append(observed[frequent], observed[~frequent].sum())
    expected = np.append(expected[frequent], expected[~frequent].sum()) + 1e-9
    assert chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-4


def test_probabilities_are_those_of_the_formulas_written_out_item_by_item() -> None:
    tiny = crowd(1, started=True)
    p, state = tiny.preferences, tiny.steps.states
    now, day, s = int(state.time[0]), 5, state.style[0].astype(np.float64)
    just_viewed, *earlier = state.memory[0, :3]
    weights = dict(zip(earlier, (0.75 * 3.0, 0.75**2 * 1.0), strict=True))
    leaf_odds = [
        np.exp(
            p.leaf_appeal[day, leaf]
            + FAVOURITE * np.sum(p.favourites[0] == leaf)
            + INTENT_1 * (leaf == 1)
            + INTENT_2 * (leaf == 2)
            + NEAR * s @ p.leaf_centre[leaf]
        )
        for leaf in range(p.leaves)
    ]
    item_odds = np.array(
        [
            np.exp(
                p.item_appeal[day, item]
                + (DRIFT * s + p.taste[0]) @ p.style[item]
                + BRAND * p.liked_brands[0, p.brand[item]]
                - PRICE * (p.price_level[item] - p.shopper_price_level[0]) ** 2
            )
            * (p.on_sale_from[item] <= now < p.on_sale_until[item] and item != just_viewed)
            for item in range(36)
        ]
    )
    by_leaf = np.bincount(p.leaf, weights=item_odds)
    expected = [
        (
            FRESH_WEIGHT * leaf_odds[leaf] / np.sum(leaf_odds) * item_odds[item] / by_leaf[leaf]
            + weights.get(item, 0)
        )
        / (FRESH_WEIGHT + sum(weights.values()))
        for item, leaf in enumerate(p.leaf)
    ]
    np.testing.assert_allclose(p.probabilities(state)[0], expected, rtol=1e-4, atol=1e-8)


def test_the_oracle_beats_covisitation_and_covisitation_beats_popularity(truth: Truth) -> None:
    oracle, covisitation, popularity = _ndcg_at_10(truth)
    assert oracle == pytest.approx(oracle_score(truth).ndcg_at_10)
    assert oracle > covisitation / 0.75
    assert covisitation > 2 * popularity
    assert oracle > 4 * popularity


def test_what_a_shopper_likes_and_when_it_is_matters_beyond_the_session(truth: Truth) -> None:
    known = truth.preferences
    full = _log_likelihood(truth)
    for blind in (
        replace(known, taste=np.zeros_like(known.taste)),
        replace(known, liked_brands=np.zeros_like(known.liked_brands)),
        replace(known, item_appeal=np.repeat(known.item_appeal.mean(axis=0)[None], SIZE.days, axis=0)),
    ):
        assert _log_likelihood(replace(truth, preferences=blind)) < full - 0.02


def test_an_event_that_chose_nothing_has_no_scores(truth: Truth, events: pd.DataFrame) -> None:
    search = of_type(events, EventType.SEARCH)[Event.ID].iloc[0]
    for unknown in (search, "e99999999", "somebody else's"):
        with pytest.raises(InputError, match="no interaction of this simulated log"):
            truth.scores([unknown])


def test_a_shop_too_small_is_refused_with_what_to_ask_for() -> None:
    with pytest.raises(InputError, match="ask for 1000 or more"):
        ShopSize(users=100, items=100, events=10, days=10)


def test_a_missing_truth_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="freshet simulate"):
        Truth.load(tmp_path / "truth.npz")


def test_the_command_prints_the_oracle_score_and_the_import_to_run_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRESHET_HOME", str(tmp_path))
    result = CliRunner().invoke(
        app, ["simulate", "--users", "50", "--items", "40", "--events", "2000", "--days", "5", "--seed", "2"]
    )
    assert result.exit_code == 0
    made = tmp_path / "simulated"
    score = oracle_score(Truth.load(made / "truth.npz"))
    assert f"NDCG@10 {score.ndcg_at_10:.3f}" in result.stdout
    assert (
        f"freshet import --events {made / 'events.parquet'} --items {made / 'items.parquet'}" in result.stdout
    )


def _ndcg_at_10(truth: Truth) -> tuple[float, float, float]:
    """NDCG@10 of the oracle, of co-visitation from the last three items, and of popularity.

    On the targets of the oracle score; the two others count the first nine tenths of the time.
    """
    states, size = truth.states, len(truth.item_ids)
    cut = states.time.max() - 0.1 * (states.time.max() - states.time.min())
    chosen = np.flatnonzero(truth.item != EMPTY)  # by shopper, then by time
    counted = chosen[states.time[chosen] < cut]
    popular = np.bincount(truth.item[counted], minlength=size).astype(np.float64)
    together = np.zeros((size, size))
    for lag in (1, 2, 3):
        one, other = counted[:-lag], counted[lag:]
        same = states.shopper[one] == states.shopper[other]
        np.add.at(together, (truth.item[one[same]], truth.item[other[same]]), 0.7 ** (lag - 1))
    together += together.T

    targets = chosen[states.time[chosen] >= cut]
    targets = targets[truth.item[targets] != states.memory[targets, 0]]
    last = states.memory[targets, :3]
    weights = np.where(last == EMPTY, 0, 0.7 ** np.arange(3))
    covisited = np.einsum("nj,nji->ni", weights, together[last]) + 1e-9 * popular
    covisited[np.arange(len(targets)), last[:, 0]] *= last[:, 0] == EMPTY
    means = []
    for scores in (truth.probabilities(targets), covisited, np.tile(popular, (len(targets), 1))):
        own = np.take_along_axis(scores, truth.item[targets, None].astype(np.int64), axis=1)
        ranks = 1 + np.sum(scores > own, axis=1)
        means.append(float(np.mean(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0))))
    return means[0], means[1], means[2]


def _log_likelihood(truth: Truth) -> float:
    """Mean log-probability of the items chosen, in nats; unlike a rank it notices small differences."""
    steps = np.flatnonzero(truth.item != EMPTY)
    chances = truth.probabilities(steps)[np.arange(len(steps)), truth.item[steps]]
    return float(np.log(chances).mean())
