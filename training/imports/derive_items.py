"""A catalog out of the event file, for shops that have no other: one value per item and column."""

import pandas as pd
import pyarrow as pa

from feature_repo.errors import InputError
from feature_repo.schema import ITEM_SCHEMA, Event, Item
from training.imports.field_map import DerivedColumn, DerivedName
from training.imports.map_rows import MappedTable
from training.imports.parse_text import holds_numbers, parse, with_decimal_point


def derive_items(events: MappedTable, columns: dict[DerivedName, DerivedColumn]) -> pa.Table:
    """Items (ITEM_SCHEMA) of the accepted events, each column the item's newest or most frequent usable value.

    Between equally new or frequent values the smallest stays, so the order of the file does not matter.
    Raises InputError when the file lacks a column.
    """
    accepted = events.verdicts.accepted
    rows = events.accepted().select([Event.ITEM, Event.TIMESTAMP]).to_pandas()
    catalog = pd.DataFrame(index=pd.Index(rows[Event.ITEM].dropna().unique(), name=Item.ID).sort_values())
    for name, derived in columns.items():
        if derived.column not in events.text.column_names:
            raise InputError(
                f"no column {derived.column!r}, which items_from_events.{name} names; "
                f"the file has {', '.join(events.text.column_names)}: correct the map"
            )
        text = events.text[derived.column].filter(accepted).combine_chunks()
        field = ITEM_SCHEMA.field(name)
        if holds_numbers(field):
            text = with_decimal_point(text, events.notation.decimal)
        values, unusable, _ = parse(field, text, unit=None)
        usable = rows.assign(value=values.to_pandas()).loc[~unusable].dropna(subset=[Event.ITEM, "value"])
        if derived.keep == "newest":
            ranked = usable.sort_values([Event.TIMESTAMP, "value"], ascending=[False, True])
        else:
            counts = usable.groupby([Event.ITEM, "value"], as_index=False).size()
            ranked = counts.sort_values(["size", "value"], ascending=[False, True])
        catalog[name] = ranked.drop_duplicates(Event.ITEM).set_index(Event.ITEM)["value"]
    found = pa.Table.from_pandas(catalog.reset_index(), preserve_index=False)
    absent = {name: pa.nulls(len(catalog), ITEM_SCHEMA.field(name).type) for name in ITEM_SCHEMA.names}
    present = {name: found[name].cast(ITEM_SCHEMA.field(name).type) for name in found.column_names}
    return pa.table(absent | present, schema=ITEM_SCHEMA)
