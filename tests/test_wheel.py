"""The wheel works without the checkout: built, installed into a fresh environment, and used in another folder."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from support import write_yaml

CHECKOUT = Path(__file__).resolve().parent.parent
UV = [sys.executable, "-m", "uv"]
SCRIPT = """\
from gaptune import Sweep, load_sweep
sweep: Sweep = load_sweep(name=1)
"""
MYPY_INI = """\
[mypy]
strict = true
follow_imports = skip
[mypy-gaptune.*]
follow_imports = normal
"""


class Installed:
    """The wheel in a fresh environment; runs commands in a folder outside the checkout."""

    def __init__(self, environment, folder, wheel):
        self.python, self.folder = environment / "bin" / "python", folder
        run(*UV, "venv", "--python", sys.executable, environment)
        run(*UV, "pip", "install", "--no-deps", "--python", self.python, wheel)
        # The dependencies are those of this environment: installing them again would take minutes and gigabytes.
        # Python reads no .pth file in a folder that a .pth file adds, so the editable checkout stays out of reach.
        packages = next(environment.glob("lib/python*/site-packages"))
        (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])

    def __call__(self, *words):
        return run(self.python, *words, cwd=self.folder)

    def gaptune(self, *words):
        """What a command prints; it has nothing to complain about, and neither have the libraries when it ends."""
        return run(self.python.parent / "gaptune", *words, cwd=self.folder, complaints="")


def run(*words, cwd=None, status=0, complaints=None):
    """Runs a command without what would lead it to the checkout or to another results folder; gives its output."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GAPTUNE_RESULTS")}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == status, f"{words}\n{done.stdout}\n{done.stderr}"
    assert complaints in (None, done.stderr)
    return done.stdout


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(*UV, "build", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, CHECKOUT)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    return Installed(tmp_path_factory.mktemp("fresh") / "environment", tmp_path_factory.mktemp("elsewhere"), built[1])


def test_the_license_and_the_types_are_packed(built):
    source, wheel = built
    with tarfile.open(source) as packed:
        assert {"LICENSE", "gaptune/py.typed"} <= {name.partition("/")[2] for name in packed.getnames()}
    with zipfile.ZipFile(wheel) as packed:
        license_text = next(name for name in packed.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
        assert packed.read(license_text) == (CHECKOUT / "LICENSE").read_bytes()
        assert "gaptune/py.typed" in packed.namelist()


def test_a_sweep_runs_without_the_checkout(installed, small_store):
    package = Path(installed("-c", "import gaptune; print(gaptune.__file__)").strip())
    assert package.is_relative_to(installed.python.parent.parent)
    assert installed.gaptune("--version").startswith("gaptune, version ")
    space, config = write_yaml(installed.folder, small_store, epochs=1, trials=1)
    installed.gaptune("sweep", space, "--config", config, "--name", "first")
    assert "1 COMPLETE" in installed.gaptune("status", "first")
    assert "mean_r10" in installed.gaptune("front", "first")
    assert "mean_r10" in installed.gaptune("train", "--config", config)  # the one command that trains in its process


def test_what_comes_with_gaptune_is_found_without_the_checkout(installed):
    assert "temperature.tau_start" in installed.gaptune("space", "show", "temp")
    assert "mean_r1" in installed.gaptune("front", "example")


def test_type_checkers_read_the_types_of_the_wheel(installed):
    (installed.folder / "script.py").write_text(SCRIPT)
    (installed.folder / "mypy.ini").write_text(MYPY_INI)  # without the types of pandas and torch: a minute more
    mypy = [sys.executable, "-m", "mypy", "--python-executable", installed.python, "script.py"]
    found = run(*mypy, cwd=installed.folder, status=1)
    assert found.startswith('script.py:2: error: Argument "name" to "load_sweep" has incompatible type "int"')
    assert "Found 1 error in 1 file" in found
