"""Who asks what in the cache experiment: reads and writes of properties, some of them far more often than others."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, product
from random import Random
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import orjson

from upstream_stub.dataset import property_rows
from upstream_stub.property_writes import PropertyInput
from upstream_stub.suburbs import SUBURBS

Kind = Literal["detail", "search", "list", "write"]

HOST = "api.example.com"
"""The same through every sidecar: the authority is in the cache's keys."""
_PRICES = (None, 500_000, 750_000, 1_000_000, 1_500_000, 2_000_000, 3_000_000, 5_000_000)
_SEED = 20_250_701


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the mix is made of; `rate` is the most requests a second, of all clients together."""

    properties: int = 10_000
    exponent: float = 1.0
    detail: float = 0.75
    search: float = 0.20
    list: float = 0.05
    writes: float = 0.02
    """Of all requests; the three above are shares of the others."""
    clients: int = 16
    """Of each sidecar, one request at a time each."""
    rate: float = 3000.0


class Ask(NamedTuple):
    """One request. `number` is the property that it is about, 0 for none."""

    kind: Kind
    method: str
    target: str
    number: int = 0
    body: bytes = b""


class Zipf:
    """Draws from `count` places: the n-th is drawn with a probability that goes with n to the power of -`exponent`."""

    def __init__(self, count: int, exponent: float, random: Random) -> None:
        self._sums = list(accumulate(place**-exponent for place in range(1, count + 1)))
        self._random = random.random

    def draw(self) -> int:
        """A place, from 0 on."""
        return bisect_left(self._sums, self._random() * self._sums[-1])


class Mix:
    """The requests of all clients, the same sequence every time."""

    def __init__(self, parameters: Parameters, seed: int = _SEED) -> None:
        self._parameters = parameters
        self._random = Random(seed)
        self._numbers = list(range(1, parameters.properties + 1))
        self._random.shuffle(self._numbers)  # that a property is popular has nothing to do with its id
        self.searches = shuffled(searches(), self._random)
        self.lists = ["/properties", *shuffled(lists(), self._random)]
        self._details = Zipf(parameters.properties, parameters.exponent, self._random)
        self._searches = Zipf(len(self.searches), parameters.exponent, self._random)
        self._lists = Zipf(len(self.lists), parameters.exponent, self._random)

    def draw(self) -> Ask:
        """The next request; what a write changes is not said yet."""
        parameters = self._parameters
        if self._random.random() < parameters.writes:
            number = self.draw_property()
            return Ask("write", self._random.choice(("PUT", "PATCH")), detail(number), number)
        kind = self._random.random() * (parameters.detail + parameters.search + parameters.list)
        if kind < parameters.detail:
            number = self.draw_property()
            return Ask("detail", "GET", detail(number), number)
        if kind < parameters.detail + parameters.search:
            return Ask("search", "GET", self.searches[self._searches.draw()])
        return Ask("list", "GET", self.lists[self._lists.draw()])

    def draw_property(self) -> int:
        """The id of a property, popular ones more often."""
        return self._numbers[self._details.draw()]


def detail(number: int) -> str:
    """The target of one property."""
    return f"/properties/{number}"


def searches() -> Iterator[str]:
    """Every search: a suburb and at most how many dollars."""
    for suburb, price in product(SUBURBS, _PRICES):
        yield f"/search?suburb={quote(suburb.name)}" + ("" if price is None else f"&max_price={price}")


def lists() -> Iterator[str]:
    """Every list but that of all properties."""
    for suburb in SUBURBS:
        yield f"/properties?suburb={quote(suburb.name)}"


def list_with(number: int) -> str:
    """A short list that holds the property, which no other request of the mix asks for."""
    row = property_rows(number).property
    return f"/properties?suburb={quote(row['suburb'])}&min_price={row['price']}&max_price={row['price']}&limit=100"


def written(ask: Ask, description: str) -> Ask:
    """The write, with what it changes: PUT sends the whole property, PATCH the description alone."""
    content: dict[str, Any] = {"description": description}
    if ask.method == "PUT":
        row = property_rows(ask.number).property
        content = {name: row[name] for name in PropertyInput.model_fields} | content
    return ask._replace(body=orjson.dumps(content))


def shuffled(items: Iterator[str], random: Random) -> list[str]:
    """In an order of chance."""
    found = list(items)
    random.shuffle(found)
    return found
