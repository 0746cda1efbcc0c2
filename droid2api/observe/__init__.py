"""What is optional: without this folder the gateway answers as with it."""

from __future__ import annotations

from aiohttp import web

from droid2api.server.keys import OBSERVERS, RUNTIME


def register(app: web.Application) -> None:
    """Add page, metrics and usage to an application that has not started."""
    from droid2api.observe.costs import Pricer  # only here: a command needs none of them
    from droid2api.observe.inspector import add_inspector
    from droid2api.observe.metrics import add_metrics
    from droid2api.observe.page import add_page
    from droid2api.observe.usage import add_usage

    app[OBSERVERS].insert(0, Pricer(lambda: app[RUNTIME].settings))
    add_page(app)
    add_inspector(app)
    add_metrics(app, app[OBSERVERS], lambda: app[RUNTIME].shared)
    add_usage(app, app[OBSERVERS], lambda: app[RUNTIME].settings.data_folder / "usage.db")
