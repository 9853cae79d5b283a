"""A question is logged whole: whatever field it has, or will have."""

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from feature_repo.errors import InputError
from feature_repo.online_user import OnlineUser
from feature_repo.session_window import WindowEvent
from serving.plan import Plan, Share
from serving.query import Filters, Question
from serving.served.question_text import from_text, to_text

texts = st.text(max_size=5)
floats = st_numpy.arrays(np.float32, st.integers(0, 4), elements=st.floats(width=32, allow_infinity=False))
users = st.builds(OnlineUser, statistics=st.none() | floats, embedding=st.none() | floats)
finite = st.none() | st.floats(allow_nan=False, allow_infinity=False)
events = st.builds(
    WindowEvent,
    item_id=st.none() | texts,
    quantity=finite,
    price=finite,
    value=finite,
    query=st.none() | texts,
)
filters = st.builds(Filters, brands=st.none() | st.lists(texts), min_price=finite, max_price=finite)
plans = st.builds(Plan, mixture=st.dictionaries(texts, st.builds(Share, st.integers(), st.floats(0, 1))))
questions = st.builds(
    Question,
    events=st.lists(events, max_size=3),
    shopper_key=st.none() | texts,
    as_of=st.integers(0, 2**53),
    context_items=st.lists(texts),
    cart=st.lists(texts),
    text=st.none() | texts,
    filters=filters,
    online=st.none() | users,
    plan=plans,
    given=st.none() | st.lists(texts),
)


def plain(value: Any) -> Any:
    """A value without arrays, tuples and NaN, so that it can be compared."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return (value.dtype, [repr(number) for number in value.tolist()])
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


@given(questions)
def test_a_logged_question_comes_back_as_it_was(question: Question) -> None:
    assert plain(from_text(to_text(question))) == plain(question)


def unlogged(value: Any, logged: Any) -> list[str]:
    """Fields of a dataclass, and of what it holds, that its log lacks."""
    if not is_dataclass(value):
        return []
    return [
        name
        for field in fields(value)
        for name in (
            unlogged(getattr(value, field.name), logged[field.name])
            if field.name in logged
            else [f"{type(value).__name__}.{field.name}"]
        )
    ]


def test_every_field_of_a_question_is_logged() -> None:
    user = OnlineUser(statistics=None, embedding=None, model_version=None, computed_at=0)
    question = Question(events=[], shopper_key=None, as_of=0, online=user)
    assert unlogged(question, orjson.loads(to_text(question))) == []


def test_a_question_of_before_a_field_was_there_is_read_with_its_default() -> None:
    question = from_text('{"events": [], "shopper_key": null, "as_of": 5, "long_gone": 1}')
    assert plain(question) == plain(Question(events=[], shopper_key=None, as_of=5))


@pytest.mark.parametrize("text", ["", "{}", '{"events": 1, "shopper_key": null, "as_of": 5}'])
def test_what_is_no_question_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="cannot read"):
        from_text(text)
