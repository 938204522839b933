"""Names, reasons and paths are data to every renderer: hostile ones come out as they went in."""

import html.parser
import io
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from support import made_sweep

from gaptune.console.terminal import Console
from gaptune.engine.publish import note
from gaptune.report import write_report
from gaptune.results import summarize
from gaptune.results.plots.comparison import plot_fronts
from gaptune.results.plots.front import plot_front
from gaptune.text.markup import for_html, for_markdown, for_plot, markdown_code, markdown_row
from gaptune.text.output import one_line

HOSTILE = [
    r"x$\frac$",
    "cost$5$",
    "a|b|c",
    "`code` ``twice``",
    "[link](http://x) ![picture](y)",
    "[/red] [bold]x",
    "<script>alert(1)</script>",
    "</title><b>&amp;",
    "# heading",
    "- item",
    "1. item",
    "_a_ *b* **c** ~~d~~",
    r"back\slash \| \$ \n",
    "\x1b[2Jgone\a",
    "two\nlines\ttab",
    "\u202eright to left",
    "_hidden",
]


class Texts(html.parser.HTMLParser):
    """The texts of a page, by the element that holds them."""

    def __init__(self, page):
        super().__init__()
        self.at, self.texts = "", []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.at = tag
        self.texts.append((tag, ""))

    def handle_data(self, data):
        self.texts.append((self.at, data))


def text_of(page, tags):
    return "".join(data for tag, data in Texts(page).texts if tag in tags).strip()


def shown_in_markdown(text):
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


def shown_in_a_picture(draw):
    """The texts of a picture as matplotlib shows them."""
    figure, file = Figure(), io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(figure)
        figure.savefig(file, format="svg")
    texts = ElementTree.fromstring(file.getvalue()).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts]


def on_a_terminal(text):
    file = io.StringIO()
    Console(file, width=500).say(text)
    return file.getvalue().strip("\n")


RENDERERS = {
    "terminal": on_a_terminal,
    "picture": lambda text: shown_in_a_picture(lambda figure: figure.suptitle(for_plot(text)))[0],
    "html": lambda text: text_of(f"<p title='{for_html(text)}'>{for_html(text)}</p>", {"p"}),
    "markdown": lambda text: text_of(shown_in_markdown(for_markdown(text)), {"p"}),
    "markdown list": lambda text: text_of(shown_in_markdown(f"- {for_markdown(text)}"), {"li"}),
    "markdown code": lambda text: text_of(shown_in_markdown(f"x {markdown_code(text)}"), {"code"}),
    "markdown table": lambda text: text_of(
        shown_in_markdown(f"| a |\n|---|\n{markdown_row(for_markdown(text))}"), {"td"}
    ),
}


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("text", HOSTILE)
def test_every_renderer_shows_any_text_literally(renderer, text):
    expected = text.replace("\x1b", "\\x1b").replace("\a", "\\x07").replace("\u202e", "\\u202e")
    if renderer == "terminal":  # lines stay lines there
        assert RENDERERS[renderer](text).expandtabs() == expected.expandtabs()
    else:
        assert RENDERERS[renderer](text) == expected.replace("\n", "\\n").replace("\t", "\\t")


@given(
    st.text(st.sampled_from("`*_[]()<>&#!|~\\$-+=.1 ab:/\"'\n"), min_size=1, max_size=12).map(str.strip).filter(bool)
)
def test_markdown_shows_any_characters_literally(text):
    expected = " ".join(one_line(text).split())
    for name in ("markdown", "markdown list", "markdown table"):
        assert " ".join(RENDERERS[name](text).split()) == expected
    assert " ".join(RENDERERS["markdown code"](text).split()) == expected


@pytest.mark.parametrize("name", [r"x$\frac$ {", "a|b `c` <script>", "[/red] cost$5$", "_x\x1b[2J"])
def test_sweep_may_have_any_name(tmp_path, name):
    trial = {"scores": {"retrieval/mean_r1": 0.5, "geometry/gap": 0.5}, "method": name, "reason": name}
    record = made_sweep(tmp_path / "s", [trial, trial | {"state": "FAIL"}])
    record.header = replace(record.header, name=name, space={**record.header.space, "name": name}, command=name)
    plot_front(record, summarize(record), tmp_path / "a.png")
    plot_fronts([record, record], tmp_path / "b.png")
    write_report(record, tmp_path / "s", tmp_path / "r.html", mlflow_url="")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert one_line(name) in text_of(page, {"title"})
    assert text_of(page, {"b", "red"}) == ""  # nothing of it has become an element
    assert one_line(name) in text_of(shown_in_markdown(note(record)), {"p", "code", "li"})
