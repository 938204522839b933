"""The report in a browser: its charts are drawn when they come near what the reader sees."""

DRAWN = """() => [...document.querySelectorAll('.chart')].every((chart) =>
    chart.getBoundingClientRect().top > innerHeight || (chart.querySelector('.main-svg') && !chart.ariaBusy))"""


class Tab:
    """A tab that shows one report after the other, and what the browser complained about, asked for or opened.

    Chromium keeps what it has compiled of a script as long as the process of its tab and its address are the same: of
    Plotly that is two seconds of computing for each page.

    Args:
        browser: Playwright's.
        path: Where the reports are to be.
    """

    def __init__(self, browser, path):
        self.path = path
        self._context = browser.new_context(offline=True)
        self.page = self._context.new_page()
        self._troubles = []
        self.page.on("console", lambda said: self._troubles.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self._troubles.append(str(error)))
        self._context.on("request", lambda asked: self._troubles.append(asked.url) if "http" in asked.url[:4] else None)

    def open(self, address=None, *, width=1280, scheme="light"):
        """Opens the report, or what shows it, and waits for the charts that are seen at once; gives the page."""
        self.page.goto("about:blank")
        self.page.mouse.move(0, 0)
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)
        self.page.goto(address or self.path.as_uri())
        self.page.wait_for_function(DRAWN, timeout=120_000)
        return self.page

    def troubles(self):
        """What went wrong since the last call."""
        found, self._troubles[:] = [*self._troubles], []
        return found + [page.url for page in self._context.pages if page is not self.page]


def see(page, chart):
    """Scrolls to a chart, and waits until it is drawn."""
    page.locator(f"#{chart}").scroll_into_view_if_needed()
    page.locator(f"#{chart}:not([aria-busy]) .main-svg").first.wait_for(state="attached", timeout=120_000)
