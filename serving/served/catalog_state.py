"""What lies over the catalog of a bundle at a moment: availability and prices, as rows of a state journal."""

from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa

from feature_repo.arrays import Int32
from serving.bundle import Availability, Bundle

_INDEX: Final = "index"
_AVAILABLE: Final = "available"
_PRICE: Final = "price"
_PRICE_MISSING: Final = "price_missing"


def own_arrays(bundle: Bundle) -> Bundle:
    """The bundle with arrays of its own for what lies over it."""
    items = bundle.items
    return replace(
        bundle,
        availability=Availability(bundle.availability.available.copy()),
        items=replace(items, price=items.price.copy(), price_missing=items.price_missing.copy()),
    )


def rows_at(bundle: Bundle, index: Int32) -> pa.Table:
    """What a bundle's arrays say of items int32[n]."""
    return pa.table(
        {
            _INDEX: index,
            _AVAILABLE: bundle.availability.available[index],
            _PRICE: bundle.items.price[index],
            _PRICE_MISSING: bundle.items.price_missing[index],
        }
    )


def differences(own: Bundle, bundle: Bundle) -> pa.Table:
    """The rows in which a bundle with arrays of its own differs from the one that it was made of."""
    differ = (
        (own.availability.available != bundle.availability.available)
        | (own.items.price != bundle.items.price)
        | (own.items.price_missing != bundle.items.price_missing)
    )
    return rows_at(own, np.flatnonzero(differ).astype(np.int32))


def with_state(bundle: Bundle, rows: pa.Table) -> Bundle:
    """The bundle as it was when these rows lay over it, of each item the last."""
    own = own_arrays(bundle)
    index = rows[_INDEX].to_numpy()  # where an index comes twice, what is assigned last stays
    own.availability.available[index] = rows[_AVAILABLE].to_numpy()
    own.items.price[index] = rows[_PRICE].to_numpy()
    own.items.price_missing[index] = rows[_PRICE_MISSING].to_numpy()
    return own
