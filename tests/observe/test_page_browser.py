"""The page in a real headless Chromium: what it shows, while requests run, copied from, dark, narrow, in Chinese."""

import asyncio
import struct
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from droid2api.application import build_app
from droid2api.demo import Demo
from droid2api.observe import page as page_module
from droid2api.server.connections import runner_of
from droid2api.server.keys import CONNECTIONS, RUNTIME
from tests.credentials.service import FIRST_KEY, Service, settled
from tests.harness import BY_TYPE, Gateway, demo_gateway, gateway_for, serving, settings_for, until
from tests.observe.browser import browser_page, ended, exchange, feed_of, gateway_at_work, tell
from tests.observe.picture import WIDTH, take

pytestmark = pytest.mark.slow

NOWHERE = "http://127.0.0.1:1"
PICTURE = Path(__file__).parent.parent.parent / "docs" / "images" / "page.png"
KEY = "planted-gateway-key"
HOSTILE = "<img src=x onerror=document.title='broken'><script>document.title='broken'</script>"


@asynccontextmanager
async def opened(gateway, folder, **context):
    """The page, when it shows all that there is. Its console has nothing to complain of."""
    problems = []
    async with browser_page(folder, problems, **{"locale": "en-US"} | context) as page:
        await page.goto(gateway.url)
        await page.wait_for_selector("#setup-parts pre")
        await page.wait_for_selector("#live.on")
        yield page
        assert problems == []


async def shows(page, selector, text):
    """Wait until an element has this text in it."""
    await page.locator(selector).filter(has_text=text).first.wait_for()


# -- at a glance ----------------------------------------------------------------------------------------------------


async def test_it_loads_without_a_complaint_and_from_nowhere_else(tmp_path):
    async with gateway_at_work(tmp_path) as gateway:
        asked = []
        async with opened(gateway, tmp_path) as page:
            page.on("request", lambda request: asked.append(request.url))
            await page.reload()
            await page.wait_for_selector("#live.on")
            assert {
                url.removeprefix(gateway.url).partition("?")[0] for url in asked if not url.startswith("data:")
            } == {
                "/",
                "/status",
                "/status/events",
                "/status/setups",
            }
            await shows(page, "#credential-list", "DROID_REFRESH_KEY")
            await shows(page, "#expiry", "in 7 h 59 min")
            await shows(page, "#endpoints", "https://api.factory.ai/api/llm/a/v1/messages")
            assert await page.locator("#chart .day").count() == 30
            assert await page.locator("#usage-models tbody tr").count() == 4
            assert await page.locator("#requests-rows tr").count() == 12
            assert await page.locator("#requests-rows .running .info").inner_text() == "running"
            await shows(page, "#errors-list li", "Most clients try again by themselves")
            assert await page.locator("#models-list tbody tr").count() == 5


async def test_what_others_wrote_stays_text(tmp_path):
    models = [{"id": HOSTILE, "name": HOSTILE + "2", "type": "common"}]
    async with demo_gateway(tmp_path, models=models) as gateway:
        for one in (exchange("r", asked=HOSTILE), ended("e", asked=HOSTILE, end="upstream error", error=HOSTILE)):
            tell(gateway, one)
        async with opened(gateway, tmp_path) as page:
            for place in ("#requests-rows", "#errors-list", "#models-list", "#setup-model", "#setup-parts"):
                await shows(page, place, "<img src=x onerror=")
            assert await page.locator("img, script").count() == 1  # the page's own script
            assert await page.title() == "droid2api"


async def test_tokens_of_today_of_30_days_and_of_a_day(tmp_path):
    async with gateway_at_work(tmp_path) as gateway, opened(gateway, tmp_path) as page:
        days = (orjson.loads((await gateway.get("/status"))[2]))["usage"]["days"]

        async def told():
            title = await page.locator("#usage-models th").first.inner_text()
            return title, await page.locator("#usage-models tfoot td").first.inner_text()

        def requests(day=None):
            return f"{sum(row['requests'] for row in days if day in (None, row['day'])):,}"

        assert await told() == ("Today", requests(days[-1]["day"]))
        await page.click("text=30 days")
        assert await told() == ("30 days", requests())
        day = days[0]["day"]
        await page.locator(f"[data-day='{day}']").hover()
        assert await told() == (day, requests(day))
        await page.locator("h1").hover()
        assert await told() == ("30 days", requests())
        await page.click("summary")
        assert await page.locator("#usage-days tbody tr").count() == 30


# -- as it happens --------------------------------------------------------------------------------------------------


async def test_a_request_is_shown_while_it_streams_and_when_it_has_ended(tmp_path):
    demo = Demo(pace=0.03)
    async with demo_gateway(tmp_path, demo) as gateway, opened(gateway, tmp_path) as page:
        assert await page.locator("#requests-none").is_visible()
        words = " ".join(f"word{number}" for number in range(60))
        body = {"model": BY_TYPE["anthropic"], "max_tokens": 500, "stream": True}
        body |= {"messages": [{"role": "user", "content": words}]}
        asking = asyncio.create_task(gateway.ask("/v1/messages", body, {"User-Agent": "claude-cli/2.0"}))
        await shows(page, "#requests-rows tr.running", "claude-cli")
        await shows(page, "#requests-count", "1 running")
        assert not asking.done()
        running = await page.locator("tr.running td.n").nth(1).inner_text()
        await page.wait_for_function(
            "was => document.querySelector('tr.running td:nth-child(7)').textContent !== was", arg=running
        )
        await asking
        await shows(page, "#requests-rows tr:not(.running)", "finished")
        cells = await page.locator("#requests-rows td").all_inner_texts()
        assert (cells[2], cells[4], cells[11]) == (BY_TYPE["anthropic"], "200", "finished")
        assert int(cells[9]) >= 60  # tokens out
        await shows(page, "#usage-models tfoot", "1")  # a moment later, from the store


async def test_an_error_says_what_to_do(tmp_path):
    async with demo_gateway(tmp_path) as gateway, opened(gateway, tmp_path) as page:
        assert await page.locator("#errors-none").is_visible()
        await gateway.ask("/v1/messages", {"model": "gpt-1"})
        await shows(page, "#errors-list", "Ask for a configured id (claude-sonnet-4-5-20250929, ")
        await gateway.ask("/v1/chat/completions", ask("fail 429"))
        await shows(page, "#errors-list", "The upstream limits the rate.")


def ask(text):
    return {"model": BY_TYPE["common"], "messages": [{"role": "user", "content": text}]}


async def test_what_runs_stays_in_sight(tmp_path):
    async with demo_gateway(tmp_path) as gateway, opened(gateway, tmp_path) as page:
        tell(gateway, exchange("long", client="patient"))
        for number in range(2 * page_module.KEPT):
            tell(gateway, ended(str(number)))
            await asyncio.sleep(0)
        await page.wait_for_function("() => document.querySelectorAll('#requests-rows tr').length === 50")
        await shows(page, "#requests-rows tr:first-child", "patient")


async def test_a_gateway_that_is_started_again(tmp_path):
    settings, port = settings_for(tmp_path, NOWHERE), 0

    @asynccontextmanager
    async def running():
        app = build_app(settings)
        runner = runner_of(app, app[CONNECTIONS], 1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        try:
            yield Gateway(f"http://127.0.0.1:{runner.addresses[0][1]}", runner.app, None)
        finally:
            await runner.cleanup()

    async with browser_page(tmp_path, locale="en-US") as page:
        async with running() as gateway:
            port = int(gateway.url.rpartition(":")[2])
            await page.goto(gateway.url)
            await page.wait_for_selector("#live.on")
            tell(gateway, exchange("cut off"))
            await page.wait_for_selector("tr.running")
        await shows(page, "#live:not(.on)", "not connected, trying again")
        async with running():
            await shows(page, "#live.on", "live")
            assert await page.locator("#requests-rows tr").count() == 0


async def test_what_happens_while_the_state_is_loaded(tmp_path):
    async with demo_gateway(tmp_path) as gateway:
        early = exchange("early", client="early")
        tell(gateway, early)

        async def late(route):
            answer = await route.fetch()
            feed_of(gateway.app).ended(replace(early, duration=1.0, end="finish", status=200))
            tell(gateway, exchange("later", client="later"))
            await asyncio.sleep(0.1)
            await route.fulfill(response=answer)

        async with browser_page(tmp_path, locale="en-US") as page:
            await page.route("**/status", late, times=1)
            await page.goto(gateway.url)
            await shows(page, "#requests-rows tr.running", "later")
            await shows(page, "#requests-rows tr:not(.running)", "early")


async def test_a_connection_that_died_without_a_word(tmp_path):
    async with gateway_at_work(tmp_path) as gateway:
        streams = []
        async with browser_page(tmp_path, locale="en-US") as page:
            await page.clock.install()
            page.on("request", lambda request: streams.append(request) if "events" in request.url else None)
            await page.goto(gateway.url)
            await page.wait_for_selector("#live.on")
            await page.clock.run_for(31_000)
            assert (len(streams), await page.locator("#live.on").count()) == (1, 1)
            await page.clock.run_for(15_000)
            await until(lambda: len(streams) == 2)
            await page.wait_for_selector("#live.on")


async def test_a_page_that_nobody_looks_at_holds_no_connection(tmp_path):
    async with gateway_at_work(tmp_path) as gateway, opened(gateway, tmp_path) as page:
        pages = feed_of(gateway.app)._pages
        turn = """hidden => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
        await page.evaluate(turn, True)
        await until(lambda: not pages)
        tell(gateway, exchange("meanwhile", client="meanwhile"))
        await page.evaluate(turn, False)
        await shows(page, "#requests-rows", "meanwhile")
        assert len(pages) == 1


# -- what can be pressed --------------------------------------------------------------------------------------------


async def test_copy(tmp_path):
    async with gateway_at_work(tmp_path) as gateway:
        setups = orjson.loads((await gateway.get("/status/setups"))[2])
        async with opened(gateway, tmp_path, permissions=["clipboard-read", "clipboard-write"]) as page:

            async def copied(button):
                await page.evaluate("navigator.clipboard.writeText('before')")
                await button.click()
                await button.filter(has_text="Copied").wait_for()
                return await page.evaluate("navigator.clipboard.readText()")

            for setup in setups:
                await page.click(f"[data-tool={setup['tool']}]")
                wanted = [part["text"] for part in setup["parts"]] + ([setup["start"]] if setup["start"] else [])
                buttons = await page.locator("#setup-parts .copy").all()
                assert [await copied(button) for button in buttons] == wanted
            assert await copied(page.locator("#models-list .copy").nth(3)) == "gpt-5.5"
            # without a clipboard, as over plain http from another machine
            await page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }")
            await page.locator("#models-list .copy").nth(2).click()
            await shows(page, "#models-list .copy", "Copied")
            assert await page.evaluate("navigator.clipboard.readText()") == "claude-opus-5-5"


async def test_a_model_of_choice(tmp_path):
    async with gateway_at_work(tmp_path) as gateway, opened(gateway, tmp_path) as page:
        await page.select_option("#setup-model", "gpt-5.5")
        await shows(page, "#setup-parts pre", "export ANTHROPIC_MODEL=gpt-5.5")
        left = [{"id": "claude-opus-5-5", "type": "anthropic"}]
        await gateway.app[RUNTIME].apply(settings_for(tmp_path, NOWHERE, models=left))  # the chosen one is gone
        tell(gateway, ended())
        await shows(page, "#setup-parts pre", "export ANTHROPIC_MODEL=claude-opus-5-5")
        assert await page.input_value("#setup-model") == ""


async def test_refresh(tmp_path):
    service = Service(lifetime=3630)
    async with serving(service.app()) as upstream:
        settings = settings_for(tmp_path, upstream, {"DROID_REFRESH_KEY": FIRST_KEY})
        async with gateway_for(settings) as gateway:
            await settled(gateway)
            async with opened(gateway, tmp_path) as page:
                await shows(page, "#expiry", "in 1 h 0 min")
                service.lifetime = 7230
                await page.click("#refresh")
                await shows(page, "#expiry", "in 2 h 0 min")
                assert service.refreshes == 2
                service.token_answer = unavailable
                await page.click("#refresh")
                await shows(page, "#credential-list", "failing")
                await shows(page, "#credential-advice strong", "answered 503")
                assert await page.locator("#refresh").is_enabled()


async def unavailable():
    return web.Response(status=503)


async def test_no_refresh_where_nothing_is_renewed(tmp_path):
    async with demo_gateway(tmp_path) as gateway, opened(gateway, tmp_path) as page:
        assert not await page.locator("#refresh").is_visible()


async def test_the_key(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "HEARTBEAT", 0.1)
    async with demo_gateway(tmp_path, api_keys=[KEY]) as gateway, browser_page(tmp_path, locale="en-US") as page:
        await page.goto(gateway.url)
        await page.wait_for_selector("#gate")
        assert not await page.locator("#gate-problem").is_visible()
        for wrong in ("planted-other", "schlüssel"):
            await page.fill("#key", wrong)
            await page.press("#key", "Enter")
            await page.locator("#gate-problem", has_text="This is none of the gateway's keys.").wait_for()
            assert not await page.locator("#main").is_visible()
        await page.fill("#key", KEY)
        await page.click("#gate button")
        await shows(page, "#setup-parts", "Put one of the gateway's api_keys in place of YOUR_KEY.")
        assert not await page.locator("#gate").is_visible()
        await page.reload()  # in this tab it is remembered
        await page.wait_for_selector("#live.on")
        assert KEY not in await page.content()
        changed = settings_for(tmp_path, NOWHERE, api_keys=["planted-changed"])
        await gateway.app[RUNTIME].apply(changed)
        await page.wait_for_selector("#gate-problem")
        await page.fill("#key", "planted-changed")
        await page.press("#key", "Enter")
        await page.wait_for_selector("#live.on")


# -- looks ----------------------------------------------------------------------------------------------------------


async def test_light_and_dark(tmp_path):
    async with gateway_at_work(tmp_path) as gateway, opened(gateway, tmp_path) as page:
        brightness = []
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            colors = "['backgroundColor', 'color'].map((name) => getComputedStyle(document.body)[name].match(/\\d+/g))"
            brightness.append([sum(map(int, color)) / 3 for color in await page.evaluate(colors)])
        [light_back, light_text], [dark_back, dark_text] = brightness
        assert light_back > 230 > 60 > light_text
        assert dark_back < 60 < 200 < dark_text


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
async def test_a_narrow_screen(tmp_path, locale):
    async with gateway_at_work(tmp_path) as gateway:
        name = "a-name-without-end-" * 3
        tell(gateway, ended("x", client=name, asked=name * 3, model=name * 3, end="upstream error", error="long" * 90))
        async with opened(gateway, tmp_path, viewport={"width": 360, "height": 800}, locale=locale) as page:
            await page.click("summary")
            for tool in ("codex", "opencode", "cline"):
                await page.click(f"[data-tool={tool}]")
                assert await page.evaluate("document.documentElement.scrollWidth") <= 360
            sections = await page.evaluate(
                "[...document.querySelectorAll('section')].map((one) => one.scrollWidth - one.clientWidth)"
            )
            assert max(sections) == 0


async def test_chinese_by_the_browsers_language_and_by_the_button(tmp_path):
    async with gateway_at_work(tmp_path) as gateway, opened(gateway, tmp_path, locale="zh-CN") as page:
        await shows(page, "#credential-title", "凭据")
        assert await page.get_attribute("html", "lang") == "zh-CN"
        await page.click("text=English")
        await shows(page, "#credential-title", "Credential")
        await shows(page, "#requests-head", "First byte")
        assert await page.get_attribute("html", "lang") == "en"
        await page.reload()  # which is remembered
        await shows(page, "#credential-title", "Credential")
        await page.click("text=中文")
        await shows(page, "#errors-list", "上游限速")
        await shows(page, "#expiry", "小时")


async def test_the_picture_in_the_readme(tmp_path):
    """It can be made again as it is, and is small."""
    made = tmp_path / "made.png"
    await take(made, tmp_path)
    for file in (made, PICTURE):
        content = file.read_bytes()
        width, height = struct.unpack(">II", content[16:24])
        assert (content[:8], width, len(content) < 250_000) == (b"\x89PNG\r\n\x1a\n", WIDTH, True)
        assert 800 < height < 1100


# -- the inspector, and what is saved -------------------------------------------------------------------------------


async def test_an_inspected_request(tmp_path):
    async with (
        demo_gateway(tmp_path, capture=5, system_prompt="Be brief.") as gateway,
        opened(gateway, tmp_path) as page,
    ):
        await gateway.ask("/v1/messages", {"model": BY_TYPE["common"], "max_tokens": 9, "messages": [user(HOSTILE)]})
        await gateway.ask(
            "/v1/chat/completions", {"model": BY_TYPE["openai"], "messages": [user("two")], "stream": True}
        )
        await page.locator("[data-capture]").nth(1).wait_for()
        await page.locator("#inspector-filters select").first.select_option(BY_TYPE["common"])
        await page.locator("[data-capture]").nth(1).wait_for(state="detached")
        await page.locator("[data-capture]").click()
        await shows(page, ".sides", "Be brief.")
        assert await page.locator(".sides pre").count() == 4
        await shows(page, ".diff .good", "Be brief.")
        assert await page.title() == "droid2api"  # what clients send is text
        async with page.expect_download() as saving:
            await page.get_by_text("Save for explain").click()
        saved = orjson.loads(await content_of(saving))
        assert saved["messages"][0]["content"] == HOSTILE
        place = await page.evaluate("(document.querySelector('.sides pre').scrollTop = 7, 7)")
        await gateway.ask("/v1/chat/completions", {"model": BY_TYPE["common"], "messages": [user("three")]})
        await page.locator("[data-capture]").nth(1).wait_for()
        assert await page.evaluate("document.querySelector('.sides pre').scrollTop") == place
        await page.locator("[data-language=zh]").click()
        await shows(page, "#inspector-title", "检查器")


async def content_of(saving):
    file = await (await saving.value).path()
    return await asyncio.to_thread(file.read_bytes)


def user(text):
    return {"role": "user", "content": text}


async def test_usage_is_saved_as_csv(tmp_path):
    async with gateway_at_work(tmp_path) as gateway, opened(gateway, tmp_path) as page:
        async with page.expect_download() as saving:
            await page.locator("#usage-save").click()
        lines = (await content_of(saving)).decode("utf-8-sig").splitlines()
        assert lines[0].startswith('"day","model","requests"')
        assert len(lines) > 30
        assert await page.evaluate("cell('=1+1')") == '"\'=1+1"'
        assert await page.evaluate("cell('a\"b')") == '"a""b"'


async def test_a_status_that_is_refused_is_said(tmp_path):
    async with gateway_at_work(tmp_path) as gateway, browser_page(tmp_path, locale="en-US") as page:
        await page.goto(gateway.url)
        await page.wait_for_selector("#live.on")
        await page.route("**/status", lambda route: route.fulfill(status=500))
        await page.evaluate("reload()")
        await shows(page, "#stale", "the gateway did not answer since")
        await page.unroute("**/status")
        await page.evaluate("reload()")
        await page.locator("#stale").wait_for(state="hidden")
        await page.route("**/status", lambda route: route.fulfill(status=401))
        await page.evaluate("reload()")
        await page.wait_for_selector("#gate:visible")
