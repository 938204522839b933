"""Files of this machine that a cluster file names: mounts, wheels, the SSH key, and the token."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from gaptune.deploy.file import SETUP, START, ClusterFile
from gaptune.errors import UserError, did_you_mean

TOKEN = "~/.ray/auth_token"
"""Where Ray looks for the token of a cluster."""
_HOMES = re.compile(r"^(~|\$HOME|/home/\w+|/root)/")


def file_problems(file: ClusterFile) -> Iterator[UserError]:
    """Files that do not exist here, or that Ray cannot use."""
    for remote, local in file.mapping("file_mounts").items():
        if not Path(str(local)).expanduser().exists():
            if str(local) == TOKEN:
                yield file.problem("no token yet; run: ray get-auth-token --generate", "file_mounts", remote)
            else:
                yield file.problem(f"{local} does not exist here", "file_mounts", remote)
    yield from _wheel_problems(file)
    yield from _key_problems(file)
    if not _has_token(file):
        what = f"no token: all who reach the ports could run code; write {{{TOKEN}: {TOKEN}}}"
        yield file.problem(what, "file_mounts")


def _wheel_problems(file: ClusterFile) -> Iterator[UserError]:
    """Wheels that a command installs from a mounted directory that does not hold them."""
    mounts = {_from_home(str(remote)): Path(str(local)) for remote, local in file.mapping("file_mounts").items()}
    for loc, command in file.commands(*SETUP):
        for wheel in re.findall(r"[^\s'\"]+\.whl", command):
            remote = PurePosixPath(_from_home(wheel))
            local = mounts.get(str(remote.parent))
            if local is None:
                if str(remote) not in mounts and "://" not in wheel:
                    yield file.problem(f"{wheel} is in no directory of file_mounts; add its directory", *loc)
            elif local.expanduser().is_dir() and not any(local.expanduser().glob(remote.name)):
                near = did_you_mean(remote.name, [each.name for each in local.expanduser().glob("*.whl")])
                yield file.problem(f"{local}/{remote.name} does not exist here{near}; run: uv build --wheel", *loc)


def _from_home(path: str) -> str:
    """A path with ``~`` for the home directory on the remote machine."""
    return _HOMES.sub("~/", path).rstrip("/")


def _key_problems(file: ClusterFile) -> Iterator[UserError]:
    given = file.text("auth", "ssh_private_key")
    key = Path(given).expanduser()
    where = ("auth", "ssh_private_key")
    if given and not key.is_file():
        yield file.problem(f"{given} does not exist here; write the path of the key", *where)
    elif given and key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield file.problem(f"others may read {given}, and ssh refuses such a key; run: chmod 600 {given}", *where)


def _has_token(file: ClusterFile) -> bool:
    """Whether each machine gets a token, as a file or in the environment of Ray."""
    mounted = {_from_home(str(remote)) for remote in file.mapping("file_mounts")}
    starts = " ".join(command for _, command in file.commands(*SETUP, *START))
    options = " ".join(map(str, file.items("docker", "run_options")))
    return bool(mounted & {TOKEN, "~/.ray"}) or "RAY_AUTH_TOKEN" in f"{starts} {options}" or "auth_token" in starts
