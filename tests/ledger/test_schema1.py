"""Ledgers of schema 1, as gaptune 0.1.0 wrote them: opened, reported, mended, resumed in the names of today."""

import copy
import itertools
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import header, sweep_config

from gaptune.errors import UserError
from gaptune.ledger import FILE_NAME, Ledger, State, encode, load, parse_events, read_events, replay
from gaptune.ledger.opening import open_ledger
from gaptune.ledger.schema1 import config_text, is_old, translate
from gaptune.results import summarize
from gaptune.search.identity import num_candidates
from gaptune.space.parse import parse_space
from gaptune.text import renamed

RECORDED = Path(__file__).parent / "schema1"


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(RECORDED, tmp_path / "temp")
    return tmp_path / "temp"


def raw():
    """The recorded events as they are in the file."""
    return [json.loads(line) for line in (RECORDED / FILE_NAME).read_bytes().splitlines()]


def old_names():
    """All names that schema 1 must not leave behind, as they stand in JSON."""
    keys = {key for group in renamed.CONFIG_KEYS.values() for key in group}
    names = {*renamed.PARAMETERS, *renamed.METRICS, *renamed.SPACE_KEYS, *renamed.VALUES, "suggestion", "budget", *keys}
    return {f'"{name}"' for name in names}


# ---- the recorded sweep ----


def test_a_schema_1_sweep_opens_with_the_new_names(folder):
    record = load(folder)
    assert record.name == "temp"
    assert record.header.config["search"]["candidates"] == 16
    assert record.header.config["early_stopping"] == {
        "method": "none",
        "reduction_factor": 3.0,
        "min_fraction": 1 / 9,
        "brackets": 1,
        "priority": "epsilon_net",
        "schedule_aware": True,
        "settling_ratio": 1.5,
        "seed": 0,
    }
    assert record.header.base["temperature.schedule"] == "learned"
    assert record.header.varied[-1] == "temperature.schedule_fraction"
    assert record.trials[1].params["temperature.schedule_fraction"] == 1.0
    assert {"zeroshot/top1", "probe/top1", "train/swapped_fraction"} <= record.trials[0].last.keys()
    assert record.count(State.COMPLETE) == 6
    assert parse_space(record.header.space).to_dict() == record.header.space
    text = json.dumps(read_events(folder)[0])
    assert not [name for name in old_names() if name in text]


def test_a_schema_1_sweep_keeps_its_values(folder):
    record, reports = load(folder), [event for event in raw() if event["event"] == "report"]
    for event in reports:
        (report,) = (one for one in record.trials[event["trial"]].reports if one.epoch == event["epoch"])
        assert list(report.metrics.values()) == list(event["metrics"].values())
        assert report.at == event["at"]


def test_a_schema_1_sweep_has_a_front_and_a_report(folder, gaptune):
    code, out, _ = gaptune("front", "temp", "--results", folder.parent)
    assert code in (0, None)
    assert f"hypervolume {summarize(load(folder)).hypervolume:.4f}" in " ".join(out.split())
    assert gaptune("report", "temp", "--results", folder.parent)[0] in (0, None)
    assert "temperature.schedule_fraction" in (folder / "report.html").read_text()
    assert '"schedule_fraction": 1.0' in gaptune("show", "temp", 1, "--json", "--results", folder.parent)[1].replace(
        "temperature.", ""
    )


def test_a_driver_rewrites_a_schema_1_ledger_once(folder):
    before, _ = read_events(folder)
    with Ledger(folder) as ledger:
        assert ledger.damages == []
    content = (folder / FILE_NAME).read_bytes()
    assert not is_old(content)
    assert read_events(folder) == (before, [])
    with Ledger(folder):
        assert (folder / FILE_NAME).read_bytes() == content


def test_a_lost_report_is_recovered_from_a_schema_1_trial_file(folder):
    said = []
    with Ledger(folder) as ledger:
        opened = open_ledger(ledger, None, said.append)
    assert said == ["1 lost lines of the ledger were recovered from the checkpoints of trial 6"]
    assert [report.epoch for report in opened.record.trials[6].reports] == [1, 2, 3, 4]
    assert opened.record.trials[6].last.keys() == opened.record.trials[0].last.keys()
    assert opened.highest == (7, 7)


def test_a_schema_1_sweep_can_be_resumed(folder):
    from gaptune.config import load_sweep_config
    from gaptune.engine.plan import prepare
    from gaptune.space.parse import load_space
    from gaptune.storage.bundled import find

    space = load_space(find(Path("temp.yaml"), "search_spaces"))
    sweep = load_sweep_config(find(Path("embedded.yaml"), "sweeps"))
    plan = prepare(space, sweep, name="temp", results=folder.parent, now=1.0, command="gaptune sweep temp.yaml")
    assert plan.header.id == raw()[0]["id"]
    assert plan.num_candidates == num_candidates(space, sweep) == 16
    assert len(plan.earlier) == len(raw())
    other = sweep.model_copy(update={"training": sweep.training.model_copy(update={"epochs": 7})})
    with pytest.raises(UserError, match=r"a different sweep named 'temp' exists \(training.epochs: 6 → 7\)"):
        prepare(space, other, name="temp", results=folder.parent, now=1.0, command="")


def test_a_ledger_of_both_schemas_is_read(folder):
    extra = {"event": "report", "at": 2e9, "trial": 6, "epoch": 4, "step": 9, "metrics": {"zeroshot/top1": 0.25}}
    with (folder / FILE_NAME).open("ab") as file:
        file.write(encode(extra))
    assert load(folder).trials[6].last == {"zeroshot/top1": 0.25}
    with Ledger(folder):
        pass
    assert load(folder).trials[6].last == {"zeroshot/top1": 0.25}


@given(line=st.integers(0, 72), at=st.integers(0, 5000), cut=st.booleans())
def test_a_damaged_schema_1_ledger_loses_only_that_line(tmp_path_factory, line, at, cut):
    lines = (RECORDED / FILE_NAME).read_bytes().splitlines(keepends=True)
    line %= len(lines)
    whole = lines[line]
    at %= len(whole) - 1
    lines[line] = whole[:at] + b"\n" if cut else whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    events, damages = parse_events(b"".join(lines))
    kept = [translate(json.loads(one)) for number, one in enumerate(raw_lines()) if number != line]
    assert [{**event, "crc": ""} for event in events] == [{**event, "crc": ""} for event in kept]
    assert damages or at == 0  # cut at its beginning the line is empty


def raw_lines():
    return (RECORDED / FILE_NAME).read_bytes().splitlines()


def test_a_schema_1_header_is_restored_from_a_session(folder):
    first, *others = raw()
    again = {"event": "session", "at": 2e9, "host": "here", "budget": 16, "sweep": first}
    lines = [line + b"\n" for line in raw_lines()[1:]]
    (folder / FILE_NAME).write_bytes(b"X\n" + b"".join(lines) + encode(again))
    with Ledger(folder):
        pass
    record = load(folder)
    assert record.header.id == first["id"]
    assert record.header.config["search"]["candidates"] == 16
    assert len(record.trials) == len({event["trial"] for event in others if event["event"] == "trial"})


# ---- every name ----

OLD_METRICS = [*renamed.METRICS.items(), *((f"e/{old}", f"e/{new}") for old, new in renamed.TASK_METRICS.items())]
OLD_KEYS = [(group, key) for group, keys in renamed.CONFIG_KEYS.items() for key in keys]

FRACTION = st.floats(0.1, 1.0)
SCHEDULES = st.sampled_from(["learned", "constant", "linear", "step"])
METHODS = st.sampled_from(["none", "asha", "random"])
EVALUATIONS = st.lists(
    st.fixed_dictionaries(
        {"name": st.just("e"), "tasks": st.lists(st.sampled_from(["zeroshot", "probe", "retrieval", "mmvp"]))}
    ),
    max_size=2,
)
NEW_METRICS = st.sampled_from(
    ["geometry/gap", *renamed.METRICS.values(), *(f"cifar10/{name}" for name in renamed.TASK_METRICS.values())]
)
METRICS = st.dictionaries(NEW_METRICS, st.floats(0, 1), max_size=6)


@st.composite
def params(draw):
    values = {"temperature.schedule": draw(SCHEDULES), "temperature.schedule_fraction": draw(FRACTION)}
    return {name: values[name] for name in draw(st.sets(st.sampled_from(sorted(values))))} | {"optimizer.lr": 0.1}


@st.composite
def headers(draw):
    """A header of today, with values at all places that have been renamed."""
    event = copy.deepcopy(header(sweep_config()))
    config, space = event["config"], event["space"]
    config["temperature"] |= {"schedule": draw(SCHEDULES), "schedule_fraction": draw(FRACTION)}
    config["search"]["candidates"] = draw(st.integers(1, 99))
    config["early_stopping"] |= {"method": draw(METHODS), "reduction_factor": draw(FRACTION), "min_fraction": 0.5}
    config["evaluate"] = draw(EVALUATIONS)
    config["constraints"] = [{"metric": draw(NEW_METRICS), "min": None, "max": draw(FRACTION)}]
    config["objectives"] = [{**one, "metric": draw(NEW_METRICS)} for one in config["objectives"]]
    event["objectives"] = [{**one, "metric": draw(NEW_METRICS)} for one in event["objectives"]]
    event["base"] |= draw(params()) | {"evaluate": config["evaluate"]}
    event["varied"] = ["temperature.schedule", "temperature.schedule_fraction"]
    space["params"] = {
        "temperature.schedule": draw(
            st.sampled_from(["learned", {"choice": ["learned", "linear"], "when": {}}, {"choice": ["step"]}])
        ),
        "temperature.schedule_fraction": {
            "uniform": [0.3, 1.0],
            "when": {"temperature.schedule": ["linear", "learned"]},
        },
        "temperature.tau_end": {"uniform": [0.1, 0.2], "when": {"temperature.schedule_fraction": 0.5}},
    }
    space["points_to_evaluate"] = draw(st.lists(params(), max_size=2))
    event["known"] = [[draw(params()), [0.1, 0.2], {}]]
    return event


@st.composite
def trials(draw):
    own = draw(params())
    config = {**draw(params()), "evaluate": draw(EVALUATIONS), "seed": 0}
    return {"event": "trial", "at": 1.0, "trial": 3, "candidate": 2, "params": own, "config": config, "method": "FLT"}


@st.composite
def events(draw):
    reports = {"event": "report", "at": 1.0, "trial": 3, "epoch": 1, "step": 2, "metrics": draw(METRICS)}
    found = {"event": "metrics", "at": 1.0, "trial": 3, "metrics": draw(METRICS)}
    session = {"event": "session", "at": 1.0, "host": "here", "candidates": 4, "sweep": draw(headers())}
    return draw(st.sampled_from([reports, found, session, draw(headers()), draw(trials())]))


def back(names):
    return {new: old for old, new in names.items()}


def old_metric(name):
    group, _, rest = name.partition("/")
    both = back(renamed.METRICS).get(name)
    return both or (f"{group}/{back(renamed.TASK_METRICS)[rest]}" if rest in back(renamed.TASK_METRICS) else name)


def old_values(flat):
    flat = {back(renamed.PARAMETERS).get(name, name): value for name, value in flat.items()}
    if flat.get("temperature.schedule") == "learned":
        flat["temperature.schedule"] = "learnt"
    return flat | ({"evaluate": old_evaluations(flat["evaluate"])} if "evaluate" in flat else {})


def old_evaluations(entries):
    return [{**one, "tasks": [back(renamed.TASKS).get(task, task) for task in one["tasks"]]} for one in entries]


def old_entry(entry):
    text = json.dumps(entry).replace('"learned"', '"learnt"')
    return json.loads(text.replace('"temperature.schedule_fraction"', '"temperature.share"'))


def old_config(config):
    config = dict(config)
    for group, names in renamed.CONFIG_KEYS.items():
        config[group] = {back(names).get(key, key): value for key, value in config[group].items()}
    for group, key in (("temperature", "schedule"), ("early_stopping", "rule")):
        config[group][key] = back(renamed.VALUES).get(config[group][key], config[group][key])
    for name in ("objectives", "constraints"):
        config[name] = [{**one, "metric": old_metric(one["metric"])} for one in config[name]]
    return config | {"evaluate": old_evaluations(config["evaluate"])}


def old(event):
    """An event as 0.1.0 wrote it."""
    event = dict(event)
    match event["event"]:
        case "sweep":
            space = {back(renamed.SPACE_KEYS).get(key, key): value for key, value in event["space"].items()}
            space["knobs"] = {
                back(renamed.PARAMETERS).get(name, name): old_entry(entry) for name, entry in space["knobs"].items()
            }
            space["points"] = [old_values(point) for point in space["points"]]
            event |= {"schema": 1, "sweep": old_config(event.pop("config")), "space": space}
            event["base"] = old_values(event["base"])
            event["varied"] = [back(renamed.PARAMETERS).get(name, name) for name in event["varied"]]
            event["objectives"] = [{**one, "metric": old_metric(one["metric"])} for one in event["objectives"]]
            event["known"] = [[old_values(one[0]), *one[1:]] for one in event["known"]]
        case "session":
            event |= {"budget": event.pop("candidates"), "sweep": old(event["sweep"])}
        case "trial":
            event |= {"suggestion": event.pop("candidate"), "knobs": old_values(event.pop("params"))}
            event["config"] = old_values(event["config"])
        case "report" | "metrics":
            event["metrics"] = {old_metric(name): value for name, value in event["metrics"].items()}
            event["event"] = "scores" if event["event"] == "metrics" else "report"
    return event


@given(events())
def test_translating_the_schema_1_form_of_an_event_gives_the_event(event):
    assert translate(old(event)) == event


@given(events())
def test_translation_is_idempotent(event):
    assert translate(event) == event


@pytest.mark.parametrize(("old_name", "new_name"), OLD_METRICS)
def test_every_metric_is_translated_in_a_single_line(old_name, new_name):
    line = encode({"event": "report", "at": 1.0, "trial": 0, "epoch": 1, "step": 1, "metrics": {old_name: 0.5}})
    ((event,), _) = parse_events(line)
    assert event["metrics"] == {new_name: 0.5}


@pytest.mark.parametrize(("group", "key"), OLD_KEYS)
def test_every_key_of_a_config_is_translated_in_headers_and_checkpoints(group, key):
    first = {**raw()[0], "sweep": {group: {key: 7}}}
    new = {group: {renamed.CONFIG_KEYS[group][key]: 7}}
    assert translate(first)["config"] == new
    assert json.loads(config_text(json.dumps({group: {key: 7}}))) == new


@pytest.mark.parametrize("kinds", itertools.permutations(["sweep", "session", "trial"]))
def test_a_header_a_session_or_a_trial_alone_is_recognized_as_schema_1(kinds):
    events = {event["event"]: {k: v for k, v in event.items() if k != "crc"} for event in reversed(raw())}
    content = b"".join(encode(events[kind]) for kind in kinds)
    found, _ = parse_events(content)
    record = replay(found)
    assert record.header.config["search"]["candidates"] == 16
    assert list(record.trials) == [0]
    for kind in kinds:
        ((alone,), _) = parse_events(encode(events[kind]))
        assert alone.keys() & {"knobs", "suggestion", "budget"} == set()


def test_linear_heads_become_heads_with_what_they_did():
    sweep = sweep_config()
    event = header(sweep)
    event["config"]["model"] = {"name": "linear-heads", "image_size": None}
    event["base"]["model.name"] = "linear-heads"
    trial = {"event": "trial", "at": 1.0, "trial": 0, "candidate": 0, "params": {}, "method": "FLT"}
    trial["config"] = {"model.name": "linear-heads", "seed": 0}
    assert is_old(json.dumps(trial).replace(" ", "").encode())
    did = {"head": "linear", "width": 128, "dropout": 0.0, "bias": False, "normalize": False}
    assert translate(event)["config"]["model"] == {"name": "heads", "image_size": None, **did}
    assert translate(event)["base"]["model.width"] == 128
    flat = {"model.name": "heads", "seed": 0, **{f"model.{name}": value for name, value in did.items()}}
    assert translate(trial)["config"] == flat
    assert translate(translate(trial)) == translate(trial)
