"""Shell commands of a cluster file: local variables, and how Ray is started."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from gaptune.deploy.file import SETUP, START, ClusterFile
from gaptune.errors import UserError

_REMOTE = {
    *("HOME", "USER", "LOGNAME", "PATH", "SHELL", "PWD", "OLDPWD", "HOSTNAME", "LANG", "LC_ALL", "TERM", "UID", "EUID"),
    *("PPID", "RANDOM", "SECONDS", "IFS", "TMPDIR", "BASH", "BASH_VERSION", "BASHPID", "LD_LIBRARY_PATH", "PYTHONPATH"),
    *("CONDA_PREFIX", "VIRTUAL_ENV", "RAY_HEAD_IP"),
}
"""Variables that a login shell or Ray sets on the machines."""
_ASSIGNED = re.compile(r"(?:^|[\s;&|({])(?:(?:export|declare|local|readonly)\s+(?:-\w+\s+)*)?(\w+)\+?=")
_LOOPED = re.compile(r"\b(?:for|select|read)\s+(?:-\w+\s+)*(\w+)")
_EXPANDED = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(:?[-=+])?)")
_SEPARATORS = {"&&", "||", ";", "|", "&", "(", ")", ";;"}
_PORT = re.compile(r"--port[= ](\d+)")
_HEAD_PORT = re.compile(r"--address[= ]['\"]?\$\{?RAY_HEAD_IP\}?:(\d+)")


def command_problems(file: ClusterFile) -> Iterator[UserError]:
    """Commands that are no valid shell, or that expand a variable of this machine on a remote one."""
    kept: set[str] = set()
    for _, command in file.commands(*SETUP):
        if ">>" in command:  # in the profile of the remote shell
            kept |= assigned(command)
    for loc, command in file.commands(*SETUP, *START):
        if simple_commands(command) is None:
            yield file.problem("a quotation mark is not closed", *loc)
            continue
        for name in dict.fromkeys(expanded(command)):
            if name not in _REMOTE | kept | assigned(command):
                yield file.problem(
                    f"${name} is expanded on the remote machine, where it is not set; write its value", *loc
                )


def start_problems(file: ClusterFile) -> Iterator[UserError]:
    """Commands that start Ray so that no worker can join."""
    head, worker = ([each for _, each in file.commands(name)] for name in START)
    starting = " ; ".join(head)
    if head and not re.search(r"\bray start\b.*--head\b", starting):
        yield file.problem("no `ray start --head`", START[0])
    elif head and "--autoscaling-config" not in starting:
        what = "no --autoscaling-config=~/ray_bootstrap_config.yaml: no worker ever starts"
        yield file.problem(what, START[0])
    joining = _HEAD_PORT.search(" ; ".join(worker))
    if worker and joining is None:
        yield file.problem("no `ray start --address=$RAY_HEAD_IP:6379`", START[1])
    port = _PORT.search(starting)
    listens = port[1] if port else "6379"
    if head and joining and joining[1] != listens:
        yield file.problem(f"the workers join port {joining[1]}, and the head listens on {listens}", START[1])


def expanded(command: str) -> Iterator[str]:
    """The variables that a command expands and for which it has no default."""
    quoted = False
    at = 0
    while at < len(command):
        char = command[at]
        if char == "\\":
            at += 2
            continue
        if char == "'" and not quoted:
            end = command.find("'", at + 1)
            at = len(command) if end < 0 else end + 1
            continue
        if char == '"':
            quoted = not quoted
        if char == "$" and (found := _EXPANDED.match(command, at)):
            if not found[3]:
                yield found[1] or found[2]
            at = found.end()
            continue
        at += 1


def assigned(command: str) -> set[str]:
    """The variables that a command sets itself."""
    return {*_ASSIGNED.findall(command), *_LOOPED.findall(command)}


def simple_commands(command: str) -> list[list[str]] | None:
    """The words of each command of a line, without quotes; None if a quotation mark is not closed."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word in _SEPARATORS:
                found.append([])
            else:
                found[-1].append(word)
    except ValueError:
        return None
    return [words for words in found if words]
