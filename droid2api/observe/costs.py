"""What an exchange costs, in US dollars: by the owner's prices, else by those that services publish.

The published ones are in the package genai-prices (the extra `prices`). To import it takes long, so that begins with
the first request, in a thread. What is not known costs None, never 0.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from droid2api.gateway.exchange import Exchange
from droid2api.hub.events import Usage
from droid2api.settings import Model, Price, Settings, is_factory

log = logging.getLogger("droid2api.usage")

MILLION = 1_000_000
NO_PRICES = (
    "No price is known for these models: set models[].price in config.json, or pip install 'droid2api[prices]' "
    "(with start.sh: .venv/bin/pip install genai-prices) and start again."
)
LIST_PRICES = "Costs are in US dollars, by list prices; a subscription counts in units of its own."


class Pricer:
    """An observer, to be notified before all others: it sets `exchange.cost`."""

    def __init__(self, current: Callable[[], Settings]) -> None:
        self._current = current
        self._snapshot: Any = None
        self._found: dict[tuple[str, str], Any] = {}
        self._is_asked = find_spec("genai_prices") is None

    def began(self, exchange: Exchange) -> None:
        if not self._is_asked:
            self._is_asked = True
            asyncio.get_running_loop().run_in_executor(None, self._load)

    def ended(self, exchange: Exchange) -> None:
        model = self._current().models.get(exchange.model)
        if model and exchange.usage:
            exchange.cost = cost(model.price, exchange.usage) if model.price else self._published(model, exchange.usage)

    def _load(self) -> None:
        try:
            from genai_prices import data_snapshot

            self._snapshot = data_snapshot.get_snapshot()
        except Exception:  # whatever a package of others fails with: without it prices are unknown
            log.exception("genai-prices cannot be used: prices are unknown.")

    def _published(self, model: Model, usage: Usage) -> float | None:
        if not self._snapshot or not (found := self._find(model)):
            return None
        from genai_prices import Usage as Counts  # it is there: there is a snapshot

        counts = Counts(
            input_tokens=usage.input,
            output_tokens=usage.output,
            cache_read_tokens=usage.cache_read,
            cache_write_tokens=usage.cache_write,
        )
        provider, price = found
        try:
            return float(price.calc_price(counts, provider).total_price)
        except (LookupError, ValueError):  # counts that do not fit together: an upstream said so
            return None

    def _find(self, model: Model) -> Any:
        """The provider and its model, else None: by the service's URL, but at Factory's, which passes on models of
        others at their list prices, by the model alone.
        """
        key = model.id, model.endpoint.base_url
        if key not in self._found:
            url = None if is_factory(model.endpoint.host) else model.endpoint.base_url
            try:
                self._found[key] = self._snapshot.find_provider_model(model.id, None, None, url)
            except LookupError:
                self._found[key] = None
        return self._found[key]


def cost(price: Price, usage: Usage) -> float:
    """Tokens of a cache cost what input does, unless they have a price."""
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    plain = max(usage.input - usage.cache_read - usage.cache_write, 0)
    total = plain * price.input + usage.cache_read * read + usage.cache_write * write + usage.output * price.output
    return total / MILLION
