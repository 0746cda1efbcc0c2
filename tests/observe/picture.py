"""The README's picture of the page: `scripts/page-picture` makes docs/images/page.png anew."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.observe.browser import browser_page, gateway_at_work

WIDTH = 1280
UPTIME = 276_300


async def take(file: Path, folder: Path) -> None:
    """The page's upper part: credential, tokens and requests."""
    file.parent.mkdir(parents=True, exist_ok=True)
    async with (
        gateway_at_work(folder) as gateway,
        browser_page(folder, viewport={"width": WIDTH, "height": 1000}, locale="en-US") as page,
    ):
        await page.route("**/status", older)
        await page.goto(gateway.url)
        await page.wait_for_selector("#setup-parts pre")
        box = await page.locator("#requests").bounding_box()
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": round(box["y"] + box["height"]) + 14}
        await page.screenshot(path=file, clip=clip)


async def older(route) -> None:
    """As if the gateway had not been started a second ago."""
    answer = await route.fetch()
    await route.fulfill(response=answer, json=await answer.json() | {"uptime_seconds": UPTIME})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(take(Path(sys.argv[1]), Path(folder)))
