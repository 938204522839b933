"""README and docs do what they say: commands and options exist, YAML loads, and every block runs.

Blocks run page by page in a directory with a finished sweep and a small data store. Tutorials are run as they are by
``test_tutorials.py``. A block that needs what is not here says so: ``<!-- not run: reason -->``.
"""

import re
import shutil
import webbrowser
from pathlib import Path

import click
import pytest
from markdown_blocks import blocks, inline_commands

import gaptune as gaptune_api
from gaptune.cli import cli
from gaptune.config import load_sweep_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs/guides").glob("*.md")),
    *sorted((ROOT / "docs/reference").glob("*.md")),
]
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
TEXTS = [*PAGES, *TUTORIALS, ROOT / "CONTRIBUTING.md"]
IDS = {page: page.relative_to(ROOT).as_posix() for page in TEXTS}

STANDS_FOR = {"NAME": "night", "TRIAL": "12", "DIR": "exported", "METHOD": "FLT"}
ONLY_PARSED = {"ui", "notebook", "confirm", "transfer", "reproduce"}  # they serve, or train a whole sweep
SMALL = """
model: {{name: scenes-tiny}}
data: {{store: {store}}}
training: {{epochs: 1, batch_size: 64}}
objectives:
  - {{metric: retrieval/mean_r1, reference: 0.0, ideal: 0.5}}
  - {{metric: uniformity/wang_isola, reference: 0.0, ideal: -4.0}}
search: {{candidates: 8}}
"""


def filled(text):
    """The text with its placeholders replaced."""
    return re.sub(rf"\b({'|'.join(STANDS_FOR)})\b", lambda found: STANDS_FOR[found[0]], text)


def check_names(words):
    """The command of these words, if it and all its options exist."""
    command = cli
    for word in words[1:]:
        if isinstance(command, click.Group) and re.match(r"[a-z]", word):
            assert word in command.commands, f"no command {' '.join(words)}"
            command = command.commands[word]
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
    unknown = [word for word in words if re.match(r"-{1,2}[a-z]", word) and word.partition("=")[0] not in known]
    assert not unknown, f"{' '.join(words)}: no option {unknown}"
    return command


@pytest.mark.parametrize("page", TEXTS, ids=IDS.get)
def test_every_command_and_option_exists(page):
    text = page.read_text()
    typed = [words for block in blocks(text) if block.kind == "bash" for words in block.commands()]
    for words in [*typed, *inline_commands(text)]:
        if "--" in words:
            words = words[words.index("--") + 1 :]  # the command of a submitted job
        if words[0] == "gaptune":
            check_names([word.strip("[],;") for word in words])


@pytest.mark.parametrize("page", TEXTS, ids=IDS.get)
def test_every_path_of_the_repository_exists(page):
    named = re.findall(
        r"\b(?:tests|benchmarks|docs|gaptune|sweeps|search_spaces|analysis)/[\w./]+\.\w+", page.read_text()
    )
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.fixture(scope="session")
def workplace(tmp_path_factory, small_store):
    """A directory as a reader of the guides has it: a finished sweep with weights, captions and a store."""
    place = tmp_path_factory.mktemp("reader")
    (place / "sweeps").mkdir()
    for config in ("embedded.yaml", "sweeps/embedded.yaml"):
        (place / config).write_text(SMALL.format(store=small_store))
    for name in ("night", "A", "B"):
        shutil.copytree(gaptune_api.load_sweep("example").folder, place / "results" / name)
    trial = {"temperature.schedule": "constant", "temperature.tau_start": 0.1}
    list(gaptune_api.train(trial, place / "embedded.yaml", checkpoints=place / "results/night/trials/0012"))
    draw = next(block for block in blocks((ROOT / "docs/tutorials/own-data.md").read_text()) if block.kind == "python")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        exec(draw.text, {})
        build = "data build csv captions.csv --out my-store --size 32 --context 16"
        cli.main(build.split(), standalone_mode=False)
    return place


@pytest.fixture
def reader(workplace, tmp_path, monkeypatch, gaptune):
    """Somebody in a directory of their own, who runs what a page says."""
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name in ("GAPTUNE_RESULTS", "GAPTUNE_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(click, "launch", lambda url, **_: 0)
    monkeypatch.setattr(webbrowser, "open", lambda url, **_: True)
    return Reader(tmp_path, gaptune, monkeypatch)


class Reader:
    def __init__(self, place, gaptune, monkeypatch):
        self.place, self.gaptune, self.monkeypatch = place, gaptune, monkeypatch
        self.namespace = {"__name__": "__main__"}

    def run(self, block):
        match block.kind:
            case "bash":
                for words in block.commands():
                    self.type(words)
            case "python" if not block.text.startswith(">>>"):  # test_api runs these
                exec(filled(block.text), self.namespace)
            case "yaml":
                self.load(block.text)

    def type(self, words):
        if words[0] == "export":
            self.monkeypatch.setenv(*words[1].split("=", 1))
            return
        assert words[0] == "gaptune", f"{words[0]}: mark the block as not run, with a reason"
        if words[1] in ONLY_PARSED:
            return
        dry = ["--dry-run"] if words[1] == "sweep" and "--dry-run" not in words else []
        code, out, errors = self.gaptune(*[filled(word) for word in words[1:]], *dry)
        assert code == 0, f"{' '.join(words)}\n{out}\n{errors}"

    def load(self, text):
        if "params:" in text:
            (self.place / "space.yaml").write_text(text)
            code, _, errors = self.gaptune("space", "show", "space.yaml")
            assert code == 0, errors
        else:
            goals = "" if "objectives:" in text else "objectives:" + SMALL.split("objectives:")[1].split("search:")[0]
            (self.place / "config.yaml").write_text(text + goals.replace("{{", "{").replace("}}", "}"))
            load_sweep_config(self.place / "config.yaml")


@pytest.mark.whole
@pytest.mark.parametrize("page", PAGES, ids=IDS.get)
def test_every_block_runs(page, reader):
    for block in blocks(page.read_text()):
        assert block.kind in ("bash", "python", "yaml", "text"), f"line {block.line}: a block without a known language"
        if block.skipped is None:
            reader.run(block)
