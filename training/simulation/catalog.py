"""The catalog of the simulated shop: categories, brands, products and what makes them alike.

Everything a product shows (brand, price, tags, picture) carries a trace of what shoppers choose it for,
so that a new product can be recommended from its catalog row alone.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from feature_repo.schema import CATEGORY_SEPARATOR, DAY, ITEM_SCHEMA, Item

# Path, what one piece is called, median price. Within a department each leaf is followed by the one
# that shoppers turn to after buying from it: a tent, then a sleeping bag.
LEAVES: Final = (
    ("Electronics > Phones > Smartphones", "smartphone", 390),
    ("Electronics > Phones > Phone Cases", "phone case", 19),
    ("Electronics > Phones > Chargers", "charger", 24),
    ("Electronics > Phones > Power Banks", "power bank", 32),
    ("Electronics > Audio > Headphones", "headphones", 85),
    ("Electronics > Audio > Speakers", "speaker", 95),
    ("Electronics > Computing > Laptops", "laptop", 790),
    ("Electronics > Computing > Keyboards", "keyboard", 65),
    ("Home > Kitchen > Coffee Makers", "coffee maker", 89),
    ("Home > Kitchen > Mugs", "mug", 12),
    ("Home > Kitchen > Teapots", "teapot", 28),
    ("Home > Kitchen > Frying Pans", "frying pan", 38),
    ("Home > Kitchen > Knives", "kitchen knife", 42),
    ("Home > Bedroom > Duvets", "duvet", 75),
    ("Home > Bedroom > Pillows", "pillow", 29),
    ("Home > Bedroom > Bed Linen", "bed linen set", 55),
    ("Sports > Outdoor > Tents", "tent", 160),
    ("Sports > Outdoor > Sleeping Bags", "sleeping bag", 85),
    ("Sports > Outdoor > Backpacks", "backpack", 79),
    ("Sports > Outdoor > Hiking Boots", "hiking boots", 120),
    ("Sports > Running > Running Shoes", "running shoes", 105),
    ("Sports > Running > Sports Watches", "sports watch", 180),
    ("Sports > Fitness > Yoga Mats", "yoga mat", 34),
    ("Sports > Fitness > Dumbbells", "dumbbell set", 58),
    ("Fashion > Women > Dresses", "dress", 69),
    ("Fashion > Women > Handbags", "handbag", 85),
    ("Fashion > Women > Blouses", "blouse", 39),
    ("Fashion > Women > Skirts", "skirt", 42),
    ("Fashion > Men > Shirts", "shirt", 45),
    ("Fashion > Men > Trousers", "trousers", 59),
    ("Fashion > Men > Belts", "belt", 29),
    ("Fashion > Men > Jackets", "jacket", 130),
    ("Beauty > Skin > Face Creams", "face cream", 26),
    ("Beauty > Skin > Serums", "serum", 32),
    ("Beauty > Skin > Sunscreens", "sunscreen", 17),
    ("Beauty > Hair > Shampoos", "shampoo", 11),
    ("Beauty > Hair > Conditioners", "conditioner", 12),
    ("Beauty > Hair > Hair Dryers", "hair dryer", 59),
    ("Beauty > Make-up > Lipsticks", "lipstick", 18),
    ("Beauty > Make-up > Mascaras", "mascara", 16),
    ("Garden > Plants > Seeds", "seed mix", 5),
    ("Garden > Plants > Planters", "planter", 27),
    ("Garden > Plants > Watering Cans", "watering can", 22),
    ("Garden > Tools > Secateurs", "secateurs", 29),
    ("Garden > Tools > Lawn Mowers", "lawn mower", 260),
    ("Garden > Living > Garden Chairs", "garden chair", 68),
    ("Garden > Living > Barbecues", "barbecue", 190),
    ("Garden > Living > Lanterns", "lantern", 24),
    ("Toys > Building > Brick Sets", "brick set", 45),
    ("Toys > Building > Model Trains", "model train", 75),
    ("Toys > Games > Board Games", "board game", 35),
    ("Toys > Games > Card Games", "card game", 14),
    ("Toys > Games > Puzzles", "puzzle", 19),
    ("Toys > Soft > Plush Animals", "plush animal", 22),
    ("Toys > Soft > Dolls", "doll", 28),
    ("Toys > Soft > Doll Houses", "doll house", 88),
    ("Pets > Dogs > Dog Food", "dog food", 38),
    ("Pets > Dogs > Dog Leads", "dog lead", 18),
    ("Pets > Dogs > Dog Beds", "dog bed", 49),
    ("Pets > Cats > Cat Food", "cat food", 29),
    ("Pets > Cats > Scratching Posts", "scratching post", 54),
    ("Pets > Cats > Cat Toys", "cat toy", 9),
    ("Pets > Birds > Bird Feeders", "bird feeder", 23),
    ("Pets > Birds > Bird Seed", "bird seed", 13),
)
# One pair of opposites for each axis of style: a product gets the word of the side it lies on.
STYLE_WORDS: Final = (
    ("modern", "vintage"),
    ("light", "sturdy"),
    ("bright", "muted"),
    ("minimal", "ornate"),
    ("compact", "roomy"),
    ("natural", "technical"),
    ("soft", "crisp"),
    ("classic", "playful"),
)
STYLES: Final = len(STYLE_WORDS)
"""Axes of the latent space in which products are alike."""
BRANDS_PER_DEPARTMENT: Final = 12
_BRAND_HEADS: Final = ("Al", "Bor", "Cal", "Dor", "El", "Fen", "Hal", "Kes", "Lum", "Mar", "Nor", "Tal")
_BRAND_TAILS: Final = ("vana", "wick", "tero", "mond", "ista", "grove", "line", "berg")
_COLOURS: Final = ("black", "white", "blue", "green", "red", "sand", "grey", "amber")

LEAF_STYLE_SPREAD: Final = 0.4
NEW_SHARE: Final = 0.2
"""Share of the items that arrive while the log runs."""
WITHDRAWN_SHARE: Final = 0.03
"""Share of the items that leave the shop while the log runs."""
NEVER: Final = np.iinfo(np.int64).max
PERMANENT_PER_LEAF: Final = 3
"""Items of each leaf that are on sale from first to last, so that there is always a choice."""


@dataclass(frozen=True)
class Catalog:
    """N items in L leaves, sorted by leaf: those of leaf l are ``leaf_start[l]:leaf_start[l + 1]``."""

    item_ids: NDArray[np.str_]
    leaf_start: NDArray[np.int64]  # [L + 1]
    leaf_centre: NDArray[np.float32]  # [L, STYLES]
    complement: NDArray[np.int64]  # [L], the leaf that shoppers turn to after a purchase
    style: NDArray[np.float32]  # [N, STYLES]: the leaf's centre plus what is the item's own
    brand: NDArray[np.int64]  # [N]
    brands: NDArray[np.str_]
    price: NDArray[np.float64]  # [N]
    price_level: NDArray[np.float32]  # [N], how dear within its leaf, in standard deviations
    quality: NDArray[np.float32]  # [N], why it sells to everybody
    on_sale_from: NDArray[np.int64]  # [N], microseconds since 1970
    on_sale_until: NDArray[np.int64]  # [N], NEVER for most

    @property
    def leaf(self) -> NDArray[np.int64]:
        """Leaf of each item, [N]."""
        return np.repeat(np.arange(len(self.complement)), np.diff(self.leaf_start))

    @property
    def nouns(self) -> list[str]:
        """What one piece of each leaf is called."""
        return [noun for _, noun, _ in LEAVES[: len(self.complement)]]


def make_catalog(items: int, start: int, end: int, rng: np.random.Generator) -> Catalog:
    """Draw a catalog of ``items`` products for a log from ``start`` to ``end`` (microseconds since 1970)."""
    leaf_count = int(np.clip(items // (3 * PERMANENT_PER_LEAF), 1, len(LEAVES)))
    paths = [path for path, _, _ in LEAVES[:leaf_count]]
    _, department = np.unique([path.split(CATEGORY_SEPARATOR)[0] for path in paths], return_inverse=True)

    sizes = PERMANENT_PER_LEAF + rng.multinomial(
        items - PERMANENT_PER_LEAF * leaf_count, rng.dirichlet(np.full(leaf_count, 6.0))
    )
    leaf = np.repeat(np.arange(leaf_count), sizes)
    leaf_start = np.concatenate([[0], np.cumsum(sizes)])
    rank_in_leaf = np.arange(items) - leaf_start[leaf]

    department_centre = rng.normal(0, LEAF_STYLE_SPREAD, (department.max() + 1, STYLES))
    leaf_centre = department_centre[department] + rng.normal(0, LEAF_STYLE_SPREAD / 2, (leaf_count, STYLES))
    style = leaf_centre[leaf] + rng.normal(0, 1, (items, STYLES))

    brand_weight = 1 / np.arange(1, BRANDS_PER_DEPARTMENT + 1) ** 0.6
    brand = department[leaf] * BRANDS_PER_DEPARTMENT + rng.choice(
        BRANDS_PER_DEPARTMENT, items, p=brand_weight / brand_weight.sum()
    )
    brands = np.array([head + tail for tail in _BRAND_TAILS for head in _BRAND_HEADS])
    brand_price = rng.normal(0, 1, len(brands))
    price_level = 0.6 * brand_price[brand] + 0.8 * rng.normal(0, 1, items)
    median = np.array([price for _, _, price in LEAVES[:leaf_count]], dtype=np.float64)
    price = np.maximum(np.round(median[leaf] * np.exp(0.45 * price_level)) - 0.01, 0.99)
    # A heavy upper tail: a few best sellers per leaf.
    quality = 0.5 * rng.standard_exponential(items) + 0.25 * rng.normal(0, 1, len(brands))[brand]

    permanent = rank_in_leaf < PERMANENT_PER_LEAF
    new = ~permanent & (rng.random(items) < NEW_SHARE)
    on_sale_from = np.where(new, rng.integers(start, end, items), start - rng.integers(DAY, 400 * DAY, items))
    withdrawn = ~permanent & (rng.random(items) < WITHDRAWN_SHARE)
    on_sale_until = np.where(withdrawn, rng.integers(np.maximum(on_sale_from, start), end), NEVER)

    # Ids tell nothing of the leaf: they are dealt out at random.
    item_ids = np.array([f"i{number:06d}" for number in 1 + rng.permutation(items)])
    return Catalog(
        item_ids=item_ids,
        leaf_start=leaf_start,
        leaf_centre=leaf_centre.astype(np.float32),
        complement=_next_in_department(department),
        style=style.astype(np.float32),
        brand=brand,
        brands=brands,
        price=price,
        price_level=price_level.astype(np.float32),
        quality=quality.astype(np.float32),
        on_sale_from=on_sale_from,
        on_sale_until=on_sale_until,
    )


def _next_in_department(department: NDArray[np.intp]) -> NDArray[np.int64]:
    """The following leaf of the same department, the first after the last."""
    following = np.empty(len(department), np.int64)
    for one in np.unique(department):
        leaves = np.flatnonzero(department == one)
        following[leaves] = np.roll(leaves, -1)
    return following


def catalog_table(catalog: Catalog, rng: np.random.Generator) -> pa.Table:
    """Rows of ITEM_SCHEMA, in the catalog's order: what a shop would know of these products."""
    items, leaf = len(catalog.item_ids), catalog.leaf
    brand_name = catalog.brands[catalog.brand]
    own_style = catalog.style - catalog.leaf_centre[leaf]
    colour = np.array(_COLOURS)[rng.integers(0, len(_COLOURS), items)]
    words = np.where(own_style > 0, *np.array(STYLE_WORDS).T)  # [N, STYLES]
    strongest_first = np.argsort(-np.abs(own_style), axis=1)
    first, second, third = np.take_along_axis(words, strongest_first[:, :3], axis=1).T
    picture = catalog.style @ rng.normal(0, 1 / np.sqrt(STYLES), (STYLES, 2 * STYLES))
    picture += rng.normal(0, 0.5, picture.shape)
    columns: dict[str, Any] = {
        Item.ID: catalog.item_ids,
        Item.TITLE: [
            f"{brand} {adjective} {LEAVES[one][1]}, {shade}"
            for brand, adjective, one, shade in zip(brand_name, first, leaf, colour, strict=True)
        ],
        Item.CATEGORY: [LEAVES[one][0] for one in leaf],
        Item.BRAND: brand_name,
        Item.PRICE: catalog.price,
        Item.AVAILABLE: catalog.on_sale_until == NEVER,
        Item.CREATED_AT: pa.array(catalog.on_sale_from, pa.timestamp("us", tz="UTC")),
        Item.DESCRIPTION: [
            f"{shade.capitalize()} {LEAVES[one][1]} by {brand}: {a}, {b} and {c}."
            for shade, one, brand, a, b, c in zip(colour, leaf, brand_name, first, second, third, strict=True)
        ],
        Item.TAGS: [list(row) for row in zip(first, second, third, colour, strict=True)],
        Item.MARGIN: np.round(rng.uniform(0.1, 0.5, items), 3),
        Item.IMAGE_EMBEDDING: list(picture.astype(np.float32)),
        Item.PROPERTIES: pa.nulls(items, pa.string()),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in ITEM_SCHEMA], schema=ITEM_SCHEMA)
