"""The page in a real browser: it fills, refreshes itself, fits a phone, and runs no one's text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import MARKET, World, make_world

from arbiter.api.app import create_app
from arbiter.daemon import http_server, listen

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="needs Chromium: sudo apt-get install chromium"
    ),
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = make_world(tmp_path, simulated=True)
    world.poll()
    world.launch(replicas=2)
    yield world
    world.store.close()


@pytest.fixture
def address(world: World) -> Iterator[str]:
    """The page, served on loopback by the server that the daemon uses."""
    app = create_app(world.sources, world.metrics)
    bound = listen("127.0.0.1", 0)
    server = http_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=20)
    bound.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


def open_page(browser: Any, address: str, **context: Any) -> tuple[Any, list[str]]:
    """A page, with what its console said and whom it asked beside us."""
    page = browser.new_context(**context).new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(address) else complaints.append(f"asked {request.url}")
        ),
    )
    page.goto(address)
    return page, complaints


def test_the_page_shows_everything_and_asks_nobody_else(browser: Any, address: str) -> None:
    page, complaints = open_page(browser, address)
    assert page.locator("h1").inner_text() == "arbiter"
    assert page.locator(".simulated").is_visible()
    assert page.locator("#services tbody tr").count() == 2
    assert page.locator("#offers .scroll tbody tr").count() == 3
    assert "chose aws/eu-north-1/eun1-az1" in page.locator("#decisions").inner_text()
    assert complaints == []


def test_it_refreshes_without_a_reload_and_says_the_news_aloud(
    browser: Any, address: str, world: World
) -> None:
    page, complaints = open_page(browser, address)
    page.evaluate("window.marked = true")
    world.executor.lose(world.executor.running[0])
    world.tick()
    page.locator("#events", has_text="was reclaimed").wait_for(timeout=20_000)
    assert page.evaluate("window.marked")
    assert page.locator("#said").inner_text() != ""
    assert complaints == []


def test_it_draws_the_prices(browser: Any, address: str, world: World) -> None:
    from arbiter.testing import priced

    world.clock.advance(600)
    world.provider.sells([priced("eu-north-1", "0.20", zone="eun1-az1"), *MARKET[1:]])
    world.poll()
    page, complaints = open_page(browser, address)
    page.wait_for_selector(".chart canvas", timeout=20_000)
    assert page.locator(".u-legend").inner_text().count("aws/") == 3
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Any, address: str, scheme: str) -> None:
    page, complaints = open_page(
        browser, address, viewport={"width": 360, "height": 740}, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in paper[4:-1].split(",")) / 3
    assert (brightness > 128) == (scheme == "light")
    assert complaints == []


def test_every_text_can_be_read(browser: Any, address: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2 AA), in both schemes."""
    for scheme in ("light", "dark"):
        page, _ = open_page(browser, address, color_scheme=scheme)
        assert page.evaluate(CONTRAST) == []


def test_text_of_a_provider_stays_text(browser: Any, address: str, world: World) -> None:
    world.provider.sells(MARKET, degraded=["<img src=x onerror='window.owned = 1'>"])
    world.poll()
    page, complaints = open_page(browser, address)
    assert "onerror" in page.locator("#reasons").inner_text()
    assert page.evaluate("window.owned") is None
    assert complaints == []


def test_a_daemon_that_is_gone_is_said(browser: Any, address: str) -> None:
    page, _ = open_page(browser, address)
    page.context.set_offline(True)
    page.wait_for_selector("#lost:not([hidden])", timeout=20_000)
    page.context.set_offline(False)
    page.wait_for_selector("#lost", state="hidden", timeout=20_000)


def test_it_is_complete_without_javascript(browser: Any, address: str) -> None:
    page, _ = open_page(browser, address, java_script_enabled=False)
    assert page.locator("#services tbody tr").count() == 2
    assert page.locator("#offers .scroll tbody tr").count() == 3


CONTRAST = """() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const lum = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility() || e.closest(".chart, .unseen")) continue;
    const [a, b] = [lum(parse(getComputedStyle(e).color)), lum(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${e.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return bad;
}"""
