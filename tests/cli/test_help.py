"""The help: complete, with examples that parse, and fast. Old names and usage errors are one line."""

import json
import os
import re
import shlex
import subprocess
import sys

import click
import pytest
from command_tree import walk
from support import cpu_seconds

from gaptune.cli import SECTIONS, cli
from gaptune.text.renamed import COMMANDS, MOVED_OPTIONS, OPTIONS

EVERYTHING = list(walk())
IDS = [" ".join(words) for words, _ in EVERYTHING]
HEAVY = ("numpy", "rich", "pydantic", "torch", "ray", "mlflow", "optuna", "pandas", "matplotlib", "pyarrow", "yaml")


def commands_of_line(words):
    """The command that words select, and what is left of them."""
    command, rest = cli, list(words)
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.mark.parametrize(("words", "command"), EVERYTHING, ids=IDS)
def test_every_command_has_a_help_and_an_example_that_parses(words, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.match(r"[A-Z].*\.", command.help)
    assert command.epilog.startswith("Example: gaptune ")
    example = shlex.split(command.epilog.removeprefix("Example: "))
    assert tuple(example[: len(words)]) == words
    selected, rest = commands_of_line(example[1:])
    selected.make_context(selected.name, rest)  # raises a usage error if they do not parse


@pytest.mark.parametrize(("words", "command"), EVERYTHING, ids=IDS)
def test_every_option_has_a_help_text(words, command):
    for option in (each for each in command.params if isinstance(each, click.Option)):
        assert re.match(r"[A-Z0-9].*\.$", option.help), option.opts
        assert option.show_envvar == bool(option.envvar), option.opts
        assert option.is_flag or option.metavar or isinstance(option.type, click.Choice), option.opts
        if option.multiple:
            assert re.search("several times|two to four times|[Oo]nce for each", option.help), option.opts


def test_the_help_has_every_command_in_a_section_on_one_line(gaptune):
    _, out, _ = gaptune("--help")
    assert sorted(command.name for commands in SECTIONS.values() for command in commands) == sorted(cli.commands)
    for title, commands in SECTIONS.items():
        section = out.partition(f"{title}:\n")[2].partition("\n\n")[0].splitlines()
        assert [line.split()[0] for line in section] == [command.name for command in commands]
    assert "..." not in out.partition("Run:")[2]


def test_the_help_lists_environment_variables(gaptune):
    _, out, _ = gaptune("sweep", "--help")
    for name in ("GAPTUNE_RESULTS", "GAPTUNE_STORAGE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        assert f"env var: {name}" in " ".join(out.split())


def test_a_group_without_a_command_prints_its_help(gaptune):
    code, out, err = gaptune("data")
    assert (code, out) == (2, "")
    assert "Build and inspect data stores." in err


def imported(env, *words):
    """The heavy packages that a command imports."""
    code = (
        "import atexit, json, sys\n"
        f"heavy = {HEAVY!r}\n"
        "atexit.register(lambda: print(json.dumps([name for name in heavy if name in sys.modules])))\n"
        f"sys.argv = {['gaptune', *words]!r}\n"
        "from gaptune.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.whole
def test_help_and_completion_import_nothing_heavy(tmp_path):
    completion = {"COMP_WORDS": "gaptune show example 1", "COMP_CWORD": "3"}
    assert imported({}, "--help") == []
    assert imported({}, "sweep", "--help") == []
    assert imported({"_GAPTUNE_COMPLETE": "bash_complete", "GAPTUNE_RESULTS": str(tmp_path), **completion}) == []


@pytest.mark.whole
def test_help_is_quick():
    def ask():
        subprocess.run([sys.executable, "-m", "gaptune.cli", "--help"], check=True, capture_output=True)

    assert min(cpu_seconds(ask) for _ in range(5)) < 0.5


@pytest.mark.parametrize(("old", "new"), OPTIONS.items())
def test_an_option_of_0_1_0_is_refused_with_its_new_name(gaptune, old, new):
    words = next(words for words, command in EVERYTHING if any(new in option.opts for option in command.params))
    code, out, err = gaptune(*words[1:], old, "x")
    assert (code, out) == (2, "")
    assert err == f"gaptune: no option '{old}' (renamed to '{new}'); see {' '.join(words)} --help\n"


@pytest.mark.parametrize(("option", "command"), MOVED_OPTIONS["front"].items())
def test_an_option_that_is_a_command_now_is_refused_with_the_command(gaptune, option, command):
    code, out, err = gaptune("front", "example", option)
    assert (code, out) == (2, "")
    moved = f"{option} of gaptune front is a command of its own now: {command}"
    assert err == f"gaptune: {moved}; see gaptune front --help\n"
    selected, rest = commands_of_line(command.split()[1:])
    selected.make_context(selected.name, rest)


RENAMED = [*(((old,), new) for old, new in COMMANDS.items()), (("data", "build", "pairs"), "mmvp")]


@pytest.mark.parametrize(("words", "new"), RENAMED)
def test_a_command_of_0_1_0_is_refused_with_its_new_name(gaptune, words, new):
    code, out, err = gaptune(*words)
    assert (code, out) == (2, "")
    group = " ".join(("gaptune", *words[:-1]))
    assert err == f"gaptune: no command '{words[-1]}' (renamed to '{new}'); see {group} --help\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sweeep",), "no command 'sweeep' (did you mean 'sweep'?); see gaptune --help"),
        (("sweep",), "missing SPACE; see gaptune sweep --help"),
        (("sweep", "temp", "--candidate", "3"), "no option '--candidate' (did you mean '--candidates'?)"),
        (("sweep", "temp", "--candidates", "0"), "--candidates: 0 is not in the range x>=1; see gaptune sweep --help"),
        (("sweep", "temp", "--name"), "option '--name' requires an argument\n"),
        (("ls", "x"), "got unexpected extra argument (x); see gaptune ls --help"),
        (("show", "example", "abc"), "TRIAL: 'abc': expected the number of a trial, such as 0"),
        (("clean", "--keep", "all"), "--keep: 'all' is not one of 'complete', 'front', 'none'"),
        (("train", "--out"), "option '--out' requires an argument"),
    ],
)
def test_a_usage_error_is_one_line_with_exit_code_2(gaptune, words, message):
    code, out, err = gaptune(*words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"gaptune: {message}")
