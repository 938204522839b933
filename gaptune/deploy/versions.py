"""Versions of Python and packages that a cluster file installs: pinned, and the same as here."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from gaptune.deploy.commands import simple_commands
from gaptune.deploy.file import SETUP, ClusterFile, Loc
from gaptune.errors import UserError

_WITH_VALUE = {
    *("-r", "--requirement", "-c", "--constraint", "-i", "--index-url", "--extra-index-url", "-f", "--find-links"),
    *("-t", "--target", "-p", "--python", "--prefix", "--root", "--src", "--index", "--torch-backend", "--with"),
}
"""Options of pip and uv whose next word is no requirement."""
_TOOLS = {"pip", "setuptools", "wheel", "uv"}
_BRANCHES = {"main", "master", "develop", "dev", "trunk", "head", "latest", "nightly"}
_IMAGE = re.compile(r"(?:^|/)rayproject/ray(?:-ml)?:(?P<ray>\d[\w.]*)(?:-py(?P<python>\d+))?")


@dataclass(frozen=True)
class Versions:
    """Versions that should be equal here and on the cluster.

    Attributes:
        python: Python, as ``3.11``.
        packages: Versions of ``gaptune``, ``ray``, and ``torch``, without local parts such as ``+cu132``.
    """

    python: str
    packages: Mapping[str, str]

    @staticmethod
    def installed() -> Versions:
        """The versions of this environment."""
        found = {name: metadata.version(name).partition("+")[0] for name in ("gaptune", "ray", "torch")}
        return Versions(".".join(platform.python_version_tuple()[:2]), found)

    @property
    def ray(self) -> str:
        """The version of Ray."""
        return self.packages["ray"]

    @property
    def tag(self) -> str:
        """The tag of Ray's own image with these versions."""
        return f"{self.ray}-py{self.python.replace('.', '')}-gpu"


def version_problems(file: ClusterFile, here: Versions) -> Iterator[UserError]:
    """Packages without a version, and versions that differ from those here."""
    found: dict[str, tuple[Loc, str]] = {}
    yield from _images(file, here, found)
    for loc, command in file.commands(*SETUP):
        for words in simple_commands(command) or []:
            for problem in _installed(words, found, loc):
                yield file.problem(problem, *loc)
    for name, version in here.packages.items():
        if name in found and found[name][1] and found[name][1] != version:
            loc, other = found[name]
            yield file.problem(f"{name} {other}, but {version} here; write {version}, or install {other} here", *loc)
    for name in here.packages.keys() - found.keys() if _must_install(file) else ():
        what = f"no command installs {name} in a version; write {name}=={here.packages[name]}"
        yield file.problem(what, "setup_commands")


def _must_install(file: ClusterFile) -> bool:
    """Whether nothing but the commands can bring gaptune: an image of one's own may have all."""
    image = file.text("docker", "image")
    return not file.in_docker or _IMAGE.search(image) is not None


def _images(file: ClusterFile, here: Versions, found: dict[str, tuple[Loc, str]]) -> Iterator[UserError]:
    """Versions in the tags of Ray's own images."""
    for loc, value in file.scalars():
        image = _IMAGE.search(value) if isinstance(value, str) and "docker" in loc else None
        if image is None:
            continue
        found["ray"] = loc, image["ray"]
        python = image["python"] and f"{image['python'][0]}.{image['python'][1:]}"
        if python != here.python:
            has = f"Python {python}" if python else "no version of Python"
            yield file.problem(f"{has}, but {here.python} here; write the tag {here.tag}", *loc)


def _installed(words: list[str], found: dict[str, tuple[Loc, str]], loc: Loc) -> Iterator[str]:
    """Notes the packages that a command installs; yields what has no version."""
    if words[:2] == ["git", "clone"] or words[:3] == ["sudo", "git", "clone"]:
        if not {"-b", "--branch"} & {word.partition("=")[0] for word in words}:
            yield "git clone without --branch: write --branch and a tag"
        return
    if "install" not in words or not any(re.search(r"(^|/)(pip3?(\.\d+)?|uv|pipx|conda|mamba)$", one) for one in words):
        return
    skip = False
    for word in words[words.index("install") + 1 :]:
        if skip or word.startswith("-"):
            if word in ("-e", "--editable"):
                yield "an editable install has no version; build a wheel with `uv build --wheel`, and install that"
            skip = not skip and word in {*_WITH_VALUE, "-e", "--editable"}
        elif not word.startswith("$"):
            name, version, problem = _requirement(word)
            if problem is not None:
                yield problem
            if name:
                found[name] = loc, version


def _requirement(word: str) -> tuple[str, str, str | None]:
    """Name and version of a word behind ``pip install``, and what is wrong with it."""
    if "git+" in word:
        _, at, ref = urlsplit(word[word.index("git+") :]).path.rpartition("@")
        if not at or ref.lower() in _BRANCHES:
            return _name_in(word), "", f"{word} has no version; add @ and a tag"
        return _name_in(word), ref.removeprefix("v"), None
    if word.endswith((".whl", ".tar.gz", ".zip")):
        parts = word.rpartition("/")[2].split("-")
        version = parts[1] if len(parts) > 1 and re.match(r"\d", parts[1]) else ""
        return (
            str(canonicalize_name(parts[0])),
            version.partition("+")[0],
            None if version else f"{word} has no version",
        )
    if re.match(r"[./~]", word):
        return _name_in(word), "", f"{word} is a directory, without a version; build a wheel with `uv build --wheel`"
    try:
        one = Requirement(word.replace("=", "==") if re.fullmatch(r"[\w-]+=[\d.]+", word) else word)  # as conda writes
    except InvalidRequirement:
        return "", "", f"{word!r} is no requirement; write NAME==VERSION in quotes"
    name = str(canonicalize_name(one.name))
    exact = [each.version for each in one.specifier if each.operator in ("==", "===") and "*" not in each.version]
    if exact or one.url or name in _TOOLS:
        return name, exact[0].partition("+")[0] if exact else "", None
    return name, "", f"{word} has no version; write {one.name}==VERSION"


def _name_in(url: str) -> str:
    """The name of a package in a direct reference, or the last part of its URL."""
    name = re.match(r"([\w.-]+)(\[[^]]*\])?\s*@", url)
    last = urlsplit(url.split("git+")[-1]).path.partition("@")[0].rstrip("/").rpartition("/")[2].removesuffix(".git")
    return str(canonicalize_name(name[1] if name else last))
