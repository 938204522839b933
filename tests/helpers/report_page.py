"""The report in a browser: its charts are drawn when they come near what the reader sees."""

DRAWN = """() => [...document.querySelectorAll('.chart')].every((chart) =>
    chart.getBoundingClientRect().top > innerHeight || (chart.querySelector('.main-svg') && !chart.ariaBusy))"""


def goto(page, path):
    """Opens a report, and waits for the charts that are seen at once."""
    page.goto(path.as_uri())
    page.wait_for_function(DRAWN, timeout=120_000)


def see(page, chart):
    """Scrolls to a chart, and waits until it is drawn."""
    page.locator(f"#{chart}").scroll_into_view_if_needed()
    page.locator(f"#{chart}:not([aria-busy]) .main-svg").first.wait_for(state="attached", timeout=120_000)
