"""Every page of the three personas, light and dark: it fits a phone and a desk, complains of
nothing, is light on the wire, and axe-core finds nothing serious."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

from devstack.pages import PAGES
from tests.browser.people import signed_in
from tests.browsers import complaints_of
from tests.whole_stack import World

pytestmark = [pytest.mark.browser, pytest.mark.live]

WIDTHS = (1440, 768, 360)
MOST_BYTES = 150_000
_AXE = Axe()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("person", list(PAGES), ids=lambda person: person or "stranger")
def test_pages_fit_are_quiet_light_and_open_to_all(
    browser: Browser, world: World, person: str, scheme: str
) -> None:
    """Each page once per scheme: at every width, in the console, to axe-core, and on the wire."""
    context = browser.new_context(
        viewport={"width": WIDTHS[0], "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        storage_state=signed_in(browser, world, person) if person else None,
    )
    try:
        page = context.new_page()
        complaints = complaints_of(page, world.stack.base_url)
        scale = Scale(page)
        found: list[str] = []
        for path in PAGES[person]:
            found += faults_of(page, scale, world.stack.base_url + path)
        assert found == []
        assert complaints == []
    finally:
        context.close()


def faults_of(page: Page, scale: Scale, url: str) -> list[str]:
    """What is wrong with one page, after opening it."""
    answer = page.goto(url)
    assert answer is not None
    assert answer.status == 200, url
    return judged(page, scale)


def judged(page: Page, scale: Scale) -> list[str]:
    """What is wrong with the page that is open: its weight, axe-core's word, its width."""
    path, found = urlsplit(page.url).path, []
    weight = scale.weigh()
    if weight > MOST_BYTES:
        found.append(f"{path} weighs {weight} bytes: {scale.heaviest()}")
    found += [f"{path}: {finding}" for finding in serious(page)]
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            found.append(f"{path} needs {needed} px of {width}")
    return found


def serious(page: Page) -> list[str]:
    """What axe-core finds on the page that keeps somebody out: rule, and where."""
    answer = _AXE.run(page, options={"resultTypes": ["violations"]}).response
    return [
        f"{each['id']} ({each['impact']}) at {each['nodes'][0]['target']} x {len(each['nodes'])}"
        for each in answer["violations"]
        if each["impact"] in {"serious", "critical"}
    ]


class Scale:
    """Weighs a page as a first visitor gets it: itself and all it loads but charts' and terminal's
    libraries, in bytes on the wire, headers included."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._sizes: dict[str, int] = {}  # of each address, when it came over the wire
        page.on("requestfinished", self._came)

    def weigh(self) -> int:
        self._page.wait_for_load_state("networkidle")
        return sum(self._parts().values())

    def heaviest(self) -> dict[str, int]:
        parts = sorted(self._parts().items(), key=lambda part: -part[1])
        return dict(parts[:5])

    def _came(self, request: Request) -> None:
        counted = request.sizes()
        size = counted["responseBodySize"] + counted["responseHeadersSize"]
        # What the browser had kept came as nothing: the first time counts.
        self._sizes[request.url] = max(size, self._sizes.get(request.url, 0))

    def _parts(self) -> dict[str, int]:
        loaded = self._page.evaluate(
            "[location.href, ...performance.getEntriesByType('resource').map((each) => each.name)]"
        )
        return {
            url: self._sizes.get(url, 0)
            for url in {each.split("#")[0] for each in loaded}
            if "/vendor/" not in url
        }


def test_the_scale_weighs(browser: Browser, world: World) -> None:
    """A page with the tree's scripts and styles weighs something, or every page would be light."""
    context = browser.new_context()
    try:
        page = context.new_page()
        scale = Scale(page)
        page.goto(world.stack.base_url)
        first = scale.weigh()
        assert 20_000 < first < MOST_BYTES
        page.goto(f"{world.stack.base_url}/terms")
        assert scale.weigh() > 0.5 * first, "the parts that the browser had kept count too"
    finally:
        context.close()
