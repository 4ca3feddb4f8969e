"""The data set: a property's rows follow from its id alone, on every Python and for every size of the set."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, NamedTuple, TypeVar

from upstream_stub.suburbs import SUBURBS, Suburb

Row = dict[str, Any]
T = TypeVar("T")

SEED = 20_250_701
NEWEST = datetime(2025, 7, 1)
STREETS = (
    "Acacia", "Albert", "Banksia", "Beach", "Bridge", "Church", "Darling", "Elizabeth", "Ferny", "George", "Grevillea",
    "High", "Jacaranda", "King", "Lachlan", "Macquarie", "Market", "Murray", "Oxford", "Park", "Queen", "Railway",
    "Station", "Victoria", "Waratah", "Wattle", "William", "York",
)  # fmt: skip
STREET_TYPES = ("Street", "Street", "Street", "Road", "Road", "Avenue", "Lane", "Parade", "Crescent", "Place")
PROPERTY_TYPES = ("house", "house", "house", "apartment", "apartment", "townhouse", "villa")
FEATURES = (
    "north-facing living area", "renovated kitchen", "timber floors", "ducted air conditioning", "covered deck",
    "leafy garden", "walk to the station", "solar panels", "study nook", "city glimpses", "quiet street", "café corner",
)  # fmt: skip
SOURCES = ("agency", "auction", "private")


class PropertyRows(NamedTuple):
    """Everything that belongs to one property."""

    property: Row
    price_history: list[Row]
    listings: list[Row]


def generate(count: int) -> Iterator[PropertyRows]:
    """The rows of properties 1 to `count`."""
    return (property_rows(number) for number in range(1, count + 1))


def property_rows(number: int) -> PropertyRows:
    """The rows of property `number`."""
    dice = _Dice(number)
    suburb = dice.pick(SUBURBS)
    prices = _price_history(number, dice, suburb)
    row = _property(number, dice, suburb) | {
        "price": prices[-1]["price"],
        "created_at": prices[0]["recorded_at"],
        "updated_at": prices[-1]["recorded_at"],
    }
    return PropertyRows(row, prices, _listings(number, dice, row))


class _Dice:
    """Draws for one property. Only `Random.random` is promised to stay the same from one Python to the next."""

    def __init__(self, number: int) -> None:
        self._random = Random(SEED * 1_000_003 + number).random

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self._random() * len(choices))]

    def between(self, low: int, high: int) -> int:
        return low + int(self._random() * (high - low + 1))

    def ratio(self, low: float, high: float) -> float:
        return low + self._random() * (high - low)


def _property(number: int, dice: _Dice, suburb: Suburb) -> Row:
    kind = dice.pick(PROPERTY_TYPES)
    bedrooms = dice.between(1, 3) if kind == "apartment" else dice.between(2, 6)
    land_size = None if kind == "apartment" else dice.between(120, 1100)
    size = f" on {land_size} m²" if land_size else ""
    return {
        "id": number,
        "address": f"{dice.between(1, 240)} {dice.pick(STREETS)} {dice.pick(STREET_TYPES)}",
        "suburb": suburb.name,
        "state": suburb.state,
        "postcode": suburb.postcode,
        "property_type": kind,
        "bedrooms": bedrooms,
        "bathrooms": dice.between(1, max(1, bedrooms - 1)),
        "car_spaces": dice.between(0, 3),
        "land_size": land_size,
        "latitude": round(suburb.latitude + dice.ratio(-0.012, 0.012), 6),
        "longitude": round(suburb.longitude + dice.ratio(-0.012, 0.012), 6),
        "description": f"{bedrooms}-bedroom {kind}{size}: {dice.pick(FEATURES)}, {dice.pick(FEATURES)}.",
        # a few properties are looked at far more often than the rest
        "views": int(40 / dice.ratio(0.001, 1.0)),
        "deleted_at": None,
    }


def _price_history(number: int, dice: _Dice, suburb: Suburb) -> list[Row]:
    """One to six sales, oldest first, each dearer than the one before."""
    sales = dice.between(1, 6)
    price = suburb.median_price * 1000 * dice.ratio(0.55, 1.6)
    date = NEWEST - timedelta(minutes=dice.between(0, 2 * 365 * 24 * 60))
    rows: list[Row] = []
    for sale in range(sales, 0, -1):
        rows.append(
            {
                "id": number * 10 + sale,
                "property_id": number,
                "event": "sold",
                "price": round(price / 1000) * 1000,
                "recorded_at": date,
            }
        )
        price /= dice.ratio(1.05, 1.45)
        date -= timedelta(days=dice.between(300, 2000))
    rows.reverse()
    return rows


def _listings(number: int, dice: _Dice, row: Row) -> list[Row]:
    """Two in five properties are for sale, at one or two sources."""
    count = max(0, dice.between(-2, 2))
    first = dice.between(0, len(SOURCES) - 1)
    return [
        {
            "id": number * 10 + place,
            "property_id": number,
            "source": SOURCES[(first + place) % len(SOURCES)],
            "price": round(row["price"] * dice.ratio(0.98, 1.12) / 1000) * 1000,
            "listed_at": row["updated_at"] + timedelta(days=dice.between(1, 90)),
        }
        for place in range(count)
    ]
