"""The page in a real browser: what a click, the filter and the pictures say of made-up sweeps."""

import json
import re
import shutil
from itertools import pairwise

import numpy as np
import pytest
from made_sweep import TWO, made, objective, scores, trial
from report_page import see

from gaptune.ledger import load
from gaptune.results import candidates, summarize
from gaptune.storage.bundled import example
from gaptune.tracking.links import RUNS_FILE

URL = "http://127.0.0.1:5000"
NUMBERS = "[...document.querySelectorAll('#trials tbody tr td:first-child')].map((cell) => Number(cell.textContent))"
HEADINGS = "[...document.querySelectorAll('#trials th')].map((cell) => cell.textContent)"
TRACES = "(id) => document.getElementById(id).data.map(({ name, x, y, mode, line, error_y, customdata }) => "
TRACES += "({ name, x: [...x], y: [...y], mode, shape: line?.shape, errors: error_y?.array, rows: customdata }))"


def filtered(page, text):
    page.fill("#filter", text)
    return page.evaluate(NUMBERS), page.locator("#troubles").text_content()


def traces(page, chart):
    see(page, chart)
    return {trace["name"]: trace for trace in page.evaluate(TRACES, chart)}


# ---- details ----


def test_a_click_on_a_point_opens_its_details_in_the_page(open_page, tmp_path, gaptune):
    folder = tmp_path / "example"
    shutil.copytree(example(), folder)
    record = load(folder)
    runs = {"experiment": "7", "sweep": "s", "trials": {number: f"run{number}" for number in record.trials}}
    (folder / RUNS_FILE).write_text(json.dumps(runs))
    page = open_page(folder)
    point = page.locator("#front .scatterlayer .points path").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#front .hoverlayer text")
    number = int(re.search(r"trial (\d+)", page.locator("#front .hoverlayer").text_content())[1])
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("#details[open]")
    found = record.trials[number]
    said = page.locator("#details").inner_text()
    assert page.locator("#details-title").text_content() == f"Trial {number}: {found.method}"
    assert f"{found.last['retrieval/mean_r1']:.3f}" in said
    assert found.params["temperature.schedule"] in said
    again = json.loads(gaptune("show", "example", number, "--json", "--results", tmp_path)[1])["rerun"]
    assert page.locator("#details-again pre").text_content() == again
    assert page.locator("#details-curve .scatterlayer").count() == 1
    assert page.locator("#details-mlflow a").get_attribute("href").startswith(f"{URL}/#/experiments/7/runs/run{number}")
    assert "gaptune ui" in page.locator("#details-mlflow").text_content()  # what the link needs
    page.keyboard.press("Escape")
    assert not page.locator("#details").is_visible()
    page.locator("#trials tbody button").nth(2).focus()
    page.keyboard.press("Enter")
    assert page.locator("#details-title").text_content() == f"Trial 2: {record.trials[2].method}"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "2"  # back where the reader was


def test_details_of_a_failed_trial_say_why(open_page, tmp_path):
    ends = [trial(0.2, 1.0), {"state": "FAIL", "reason": "non-finite: loss is inf at step 3", "params": {}}]
    made(tmp_path / "s", ends)
    page = open_page(tmp_path / "s")
    page.locator("#trials tbody button").nth(1).click()
    assert "non-finite: loss is inf at step 3" in page.locator("#details").inner_text()
    assert page.locator("#details-curve").is_hidden()


# ---- pictures ----


@pytest.mark.parametrize("maximize", [(True, False), (False, False)])
def test_the_line_of_the_front_promises_only_what_a_member_attains(open_page, tmp_path, maximize):
    signs = [1 if up else -1 for up in maximize]
    good = [(0.1, 0.4), (0.3, 0.3), (0.4, 0.1), (0.2, 0.2)]
    trials = [trial(0.5 + signs[0] * a, 0.5 + signs[1] * b, 0.02 + k / 100) for k, (a, b) in enumerate(good)]
    both = [objective(o["metric"], up, *o_box(up)) for o, up in zip(TWO, maximize, strict=True)]
    record = made(tmp_path / "s", trials, objectives=both)
    page = open_page(tmp_path / "s")
    for swap in (False, True):
        if swap:
            for axis, one in (("x", both[1]), ("y", both[0])):
                page.select_option(f"#front-{axis}", one["metric"])
        line = traces(page, "front")["front"]
        path = list(zip(line["x"], line["y"], strict=True))
        turn = {"vh": lambda a, b: (a[0], b[1]), "hv": lambda a, b: (b[0], a[1])}[line["shape"]]
        corners = [turn(a, b) for a, b in pairwise(path)]
        assert len(corners) == 2
        members = [m.values[::-1] if swap else m.values for m in summarize(record).front]
        way = signs[::-1] if swap else signs
        assert np.array(sorted(path)) == pytest.approx(np.array(sorted(map(tuple, members))))
        for corner in corners:
            assert any(all(s * m >= s * c - 1e-9 for m, c, s in zip(mem, corner, way, strict=True)) for mem in members)
    page.select_option("#front-x", "temperature/tau")  # there is no such line between other metrics
    assert "front" not in traces(page, "front")


def o_box(maximize):
    return (0.0, 1.0) if maximize else (1.0, 0.0)


def test_bars_show_the_standard_errors_of_the_tables(open_page, tmp_path):
    noise = (-0.02, 0.0, 0.03)
    trials = [trial(0.1 + k / 50 + shift, 1.2 - k / 20, 0.02 * (k + 1)) for k in range(4) for shift in noise]
    record = made(tmp_path / "s", trials, seeds=3)
    page = open_page(tmp_path / "s")
    page.select_option("#front-y", "retrieval/mean_r1")
    drawn = traces(page, "front")["FLT"]
    expected = [one.errors[0] for one in candidates(record)]
    assert drawn["errors"] == pytest.approx(expected, rel=1e-4)
    assert "standard error of the mean over 3 seeds" in page.locator("#front-section").inner_text()
    assert f"{candidates(record)[0].values[0]:.3f} ± {expected[0]:.3f}" in page.locator("#trials").inner_text()
    page.locator("#trials tbody button").first.click()
    assert page.locator("#details-again pre").count() == 3  # a command for each seed


def test_epochs_are_counted_in_whole_numbers(open_page, tmp_path):
    ticks = """['curve-gap', 'history-trials'].map((id) =>
        [...document.querySelectorAll(`#${id} .xtick text`)].map((each) => each.textContent))"""
    for epochs in (1, 9):
        curve = [scores(0.1 + epoch / 50, 1.0 - epoch / 50) for epoch in range(epochs)]
        params = [{"temperature.tau_start": 0.05, "temperature.schedule_fraction": 0.5 + k / 10} for k in range(3)]
        made(tmp_path / f"s{epochs}", [{"reports": curve, "params": each} for each in params])
        page = open_page(tmp_path / f"s{epochs}")
        for chart in ("curve-gap", "history-trials"):
            see(page, chart)
        for texts in page.evaluate(ticks):
            assert len(set(texts)) == len(texts) > 1
            assert all(text.isdigit() for text in texts)


def test_an_infeasible_candidate_has_a_mark_of_its_own_everywhere(open_page, tmp_path):
    good = [trial(0.1 + k / 50, 1.2 - k / 50, 0.02 + k / 100) for k in range(6)]
    made(tmp_path / "s", [*good, trial(0.45, 0.05)], constraints=[{"metric": "geometry/gap", "min": 0.2, "max": None}])
    page = open_page(tmp_path / "s")
    drawn = traces(page, "front")
    assert drawn["infeasible"]["rows"] == [6]
    assert 6 not in drawn["FLT"]["rows"]
    assert page.locator("#front .legend").text_content().count("infeasible") == 1
    assert page.locator("#trials tr.infeasible td").first.text_content() == "6"
    assert filtered(page, "infeasible")[0] == filtered(page, "feasible = no")[0] == [6]
    assert filtered(page, "feasible")[0] == list(range(6))
    page.fill("#filter", "")
    see(page, "parallel")
    line = page.evaluate("(({ color, cmin, colorbar }) => ({ color: [...color], cmin, ticks: colorbar.ticktext }))"
                         "(document.getElementById('parallel').data[0].line)")  # fmt: skip
    assert line["color"][6] == line["cmin"] < min(line["color"][:6])
    assert "infeasible" in line["ticks"]
    assert "geometry/gap >= 0.2" in page.locator("#headline").inner_text()
    page.locator("#headline button", has_text="6").click()
    assert "breaks geometry/gap >= 0.2" in page.locator("#details").inner_text()


def test_a_sweep_in_which_all_are_infeasible_is_drawn_and_says_so(open_page, tmp_path):
    limit = [{"metric": "geometry/gap", "min": None, "max": 0.1}]
    made(tmp_path / "s", [trial(0.1 + k / 50, 1.2 - k / 50, 0.02 + k / 100) for k in range(10)], constraints=limit)
    page = open_page(tmp_path / "s")
    text = page.locator("main").inner_text()
    assert "geometry/gap <= 0.1 rules out 10" in page.locator("#headline").inner_text()
    assert "No trial is complete" not in text
    assert traces(page, "front").keys() == {"infeasible"}
    assert "The hypervolume is unknown: 10 candidates are complete" in text


def test_sweeps_of_one_trial_of_none_and_of_equal_ones_have_a_page(open_page, tmp_path):
    made(tmp_path / "one", [trial(0.2, 1.0)])
    made(tmp_path / "none", [])
    made(tmp_path / "equal", [trial(0.2, 0.5, 0.02 + k / 1000) for k in range(12)])
    made(tmp_path / "constant", [trial(0.2, 0.3 + k / 10, 0.02 + k / 1000) for k in range(12)])
    for name in ("one", "none", "equal", "constant"):
        text = open_page(tmp_path / name).locator("main").inner_text()
        assert not re.search(r"\b(nan|NaN|undefined|Infinity|null:? [^s])\b", text), name
        assert "-0.00" not in text
        assert "(s)" not in text
        if name != "none":
            assert "correlates " not in text


# ---- names ----


def test_metrics_with_the_same_last_part_have_full_labels(open_page, tmp_path):
    names = ("cifar10/zeroshot/top1", "imagenet/zeroshot/top1")
    rows = [(0.1 + k / 20, 0.9 - k / 20) for k in range(9)]
    params = [{"temperature.tau_start": 0.02 + k / 100, "temperature.schedule_fraction": 0.5} for k in range(9)]
    trials = [
        {"reports": [dict(zip(names, row, strict=True)) | {"geometry/gap": 0.5}], "params": own}
        for row, own in zip(rows, params, strict=True)
    ]
    made(tmp_path / "s", trials, objectives=[objective(name, True, 0, 1) for name in names])
    page = open_page(tmp_path / "s")
    headings = page.evaluate(HEADINGS)
    see(page, "parallel")
    axes = page.evaluate("document.getElementById('parallel').data[0].dimensions.map((one) => one.label)")
    assert {f"{name} ↑" for name in names} <= set(headings) & set(axes)
    assert len(set(headings)) == len(headings)
    bar = page.evaluate("document.getElementById('parallel').data[0].line.colorbar.title.text")
    assert bar == f"{names[0]} ↑"
    assert page.evaluate("document.getElementById('front').layout.xaxis.title.text").startswith(names[0])
    tooltip = page.evaluate("document.getElementById('front').data.at(-2).text[0]")
    assert all(f"{name} 0." in tooltip for name in names)
    assert filtered(page, "imagenet/zeroshot/top1 > 0.79") == ([0, 1, 2], "")


def test_text_of_the_sweep_is_shown_as_text(open_page, tmp_path):
    bad = "<img src=x onerror='window.hacked=1'>"
    script = "</script><script>window.hacked=1</script>"
    params = {"temperature.schedule": {"choice": ["<b>bold</b> &lt;", bad, script], "when": {}}}
    names = (f"{bad}/zeroshot/top1", "__proto__")
    trials = [
        {
            "reports": [{names[0]: k / 10, names[1]: 0.5, "geometry/gap": 0.5 - k / 20}],
            "params": {"temperature.schedule": choice},
            "node": "<u>node</u>",
        }
        for k, choice in enumerate(params["temperature.schedule"]["choice"])
    ]
    failed = {"state": "FAIL", "reason": f"{bad} \x1b[31m\x00 \u202e & 'q' \"Q\" $x$ ${{y}}", "params": {}}
    name = f"</title></script>{bad} & <b>x</b>"
    made(
        tmp_path / "s",
        [*trials, failed],
        params=params,
        objectives=[objective(names[0], True, 0, 1), TWO[1]],
        name=name,
        command=f"gaptune sweep '{script}'",
    )
    page = open_page(tmp_path / "s")
    assert page.locator("h1").text_content() == page.title().removesuffix(" · gaptune") == name
    assert page.locator("#again pre").first.text_content() == f"gaptune sweep '{script}'"
    assert bad in page.locator("#trials").inner_text()
    assert "\\x1b[31m\\x00" in page.locator("#trials").inner_text()
    assert "<u>node</u>" in page.locator("#cost").inner_text()
    page.select_option("#slice-x", "temperature.schedule")
    assert page.locator("#slice .xtick").first.text_content() == "<b>bold</b> &lt;"
    tooltip = page.evaluate("document.getElementById('slice').data[0].text[0]")
    assert "&lt;b&gt;bold&lt;/b&gt; &amp;lt;" in tooltip
    assert bad in page.locator("#slice .xtick", has_text="onerror").first.text_content()
    page.locator("#trials tbody button").nth(1).click()
    assert bad in page.locator("#details").inner_text()
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main b, main u, dialog img").count() == 0


# ---- the table ----

MIXED = {
    "temperature.schedule": {"choice": ["constant", "linear"], "when": {}},
    "temperature.tau_end": {"log_uniform": [0.01, 0.2], "when": {"temperature.schedule": ["linear"]}},
    "training.clip_norm": {"choice": [None, 1, 10], "when": {}},
    "augment.flip": {"choice": [True, False], "when": {}},
    "training.epochs": {"choice": [1, 2], "when": {}},
}


@pytest.fixture
def mixed(tmp_path):
    """Choices of numbers, booleans and null; a parameter that not all have; a metric that was not measured once."""

    def one(k):
        linear = k % 2 == 1
        params = {
            "temperature.schedule": "linear" if linear else "constant",
            **({"temperature.tau_end": 0.1} if linear else {}),
            "training.clip_norm": [None, 1, 10][k % 3],
            "augment.flip": k < 3,
            "training.epochs": 1,
        }
        metrics = scores(0.1 + k / 20, 1.00004 - k / 10)
        if k == 5:
            del metrics["geometry/gap"]
        return {"reports": [metrics], "params": params, "method": "TS" if linear else "FLT"}

    failed = {
        "state": "FAIL",
        "reason": "loss < 0, or worse: at step 3",
        "params": {"temperature.schedule": "constant"},
    }
    made(tmp_path / "s", [*map(one, range(6)), failed], params=MIXED)
    return tmp_path / "s"


def test_null_not_applicable_and_not_measured_are_three_signs(open_page, mixed):
    page = open_page(mixed)
    rows = [re.split(r"\t", line) for line in page.locator("#trials").inner_text().splitlines()]
    column = {heading.rstrip(" ↑↓"): place for place, heading in enumerate(page.evaluate(HEADINGS))}
    cells = {int(row[0]): row for row in rows if row[0].strip().isdigit()}
    assert cells[0][column["training.clip_norm"]] == "null"
    assert cells[0][column["tau_end"]] == "–"
    assert cells[5][column["gap"]] == "·"
    for sign in ("null:", "–:", "·:"):
        assert sign in page.locator("#signs").inner_text()
    see(page, "parallel")
    dimensions = page.evaluate(
        "document.getElementById('parallel').data[0].dimensions.map(({ label, ticktext }) => [label, ticktext])"
    )
    ticks = {label.rstrip(" ↑↓"): texts for label, texts in dimensions}
    assert ticks["training.clip_norm"] == ["1", "10", "null"]
    assert ticks["augment.flip"] == ["true", "false"]
    assert ticks["tau_end"][0] == "–"
    assert ticks["gap"][0] == "·"
    page.select_option("#slice-x", "training.clip_norm")
    assert page.evaluate("document.getElementById('slice').layout.xaxis.type") == "category"
    page.select_option("#slice-x", "temperature.tau_end")
    assert "3 trials of 6" in page.locator("#slice-note").inner_text()


def test_the_filter_takes_what_is_shown_and_says_what_it_does_not_understand(open_page, mixed):
    page = open_page(mixed)
    everyone = list(range(7))
    for text, numbers in {
        "gap < 0.75": [3, 4],
        "geometry/gap<0.75": [3, 4],
        "GAP <= 0.71": [3, 4],
        "gap = 0.700": [3],
        "gap = ·": [5, 6],
        "method = TS": [1, 3, 5],
        "method != TS, gap > 0.5": [0, 2, 4],
        "ts": [1, 3, 5],
        "front": sorted(m.trial.number for m in summarize(load(mixed)).front),
        "tau_end = –": [0, 2, 4, 6],
        "temperature.tau_end = 0.1": [1, 3, 5],
        "training.clip_norm = null": [0, 3],
        "training.clip_norm = 10": [2, 5],
        "augment.flip = true": [0, 1, 2],
        "training.epochs = 1": [0, 1, 2, 3, 4, 5],
        "epochs = 0": [6],
        "state = fail": [6],
        '"loss < 0, or worse"': [6],
        "trial ≥ 5": [5, 6],
        "w2 < -0.84": [0, 1],  # a metric that the table has no column for
    }.items():
        assert filtered(page, text) == (numbers, ""), text
    for text, said, numbers in (
        ("gapp < 0.5", "no column “gapp”", everyone),
        ("constructor = 1", "no column “constructor”", everyone),
        ("gap < small", "“small” is not a number", everyone),
        ("gap <", "lacks a value", everyone),
        ("< 3", "the name of a column is missing", everyone),
        ("method < TS", "has no order", everyone),
        ("gap", "is a column", everyone),
        ("gap < x, method = TS", "“x” is not a number", [1, 3, 5]),
        ("xyzzy", "no trial has the text “xyzzy”", []),
    ):
        found, troubles = filtered(page, text)
        assert said in troubles, text
        assert found == numbers, text
    assert "0 of 7 trials" in page.locator("#count").text_content()


def test_filter_and_ranges_narrow_table_and_plots_together(open_page, mixed):
    page = open_page(mixed)
    page.fill("#filter", "method = TS")
    see(page, "parallel")
    assert page.evaluate("document.getElementById('parallel').data[0].line.color.length") == 3
    see(page, "front")
    others = "document.getElementById('front').data.find((one) => one.name === 'FLT')"
    page.wait_for_function(f"{others}.marker.opacity.every((one) => one < 0.2)")
    page.fill("#filter", "")
    see(page, "parallel")
    assert page.evaluate("document.getElementById('parallel').data[0].line.color.length") == 6
    across = page.evaluate("document.getElementById('parallel').data[0].dimensions.map((one) => one.label)")
    place = next(k for k, label in enumerate(across) if label.startswith("mean_r1"))
    page.evaluate(f"Plotly.restyle('parallel', {{ 'dimensions[{place}].constraintrange': [[0.19, 0.26]] }})")
    assert page.evaluate(NUMBERS) == [2, 3]
    assert "narrowed by ranges" in page.locator("#trials-section").inner_text()
    page.click("#curves-filtered")
    assert page.evaluate("document.getElementById('curve-gap').data.length") == 2
    page.click("#clear-ranges")
    assert len(page.evaluate(NUMBERS)) == 7


def test_a_cut_table_says_so_and_can_be_seen_whole(open_page, tmp_path):
    made(tmp_path / "s", [trial(0.1 + k / 1000, 1.0 + k / 1000, 0.02 + k / 1000) for k in range(130)])
    page = open_page(tmp_path / "s")
    assert page.locator("#count").text_content() == "130 of 130 trials; the first 100 are shown"
    assert len(page.evaluate(NUMBERS)) == 100
    assert page.locator("#best tbody tr").count() == 10
    assert "10 of 130" in page.locator("#best-note").inner_text()
    page.click("#everything")
    assert len(page.evaluate(NUMBERS)) == 130
    assert page.locator("#count").text_content() == "130 of 130 trials"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_title_is_cut_on_a_phone(open_page, mixed, scheme):
    page = open_page(mixed, width=390, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for chart in page.evaluate("[...document.querySelectorAll('.chart')].map((chart) => chart.id)"):
        see(page, chart)
    cut = """[...document.querySelectorAll('.chart .xtitle, .chart .ytitle')].filter((title) => {
        const [box, chart] = [title.getBoundingClientRect(), title.closest('.chart').getBoundingClientRect()];
        return box.left < chart.left - 1 || box.right > chart.right + 1
            || box.top < chart.top - 1 || box.bottom > chart.bottom + 1;
    }).map((title) => title.textContent)"""
    assert page.evaluate(cut) == []
    stroke = page.evaluate("getComputedStyle(document.querySelector('#parallel .axis path')).stroke")
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    levels = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (stroke, back)]
    assert abs(levels[0] - levels[1]) > 150  # the axes stand out from what is behind them
