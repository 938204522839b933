"""A session ends what it has started, wherever an error comes."""

import shutil
import threading
import time

import pytest
from support import write_yaml

from gaptune.config import load_sweep_config
from gaptune.engine import driver
from gaptune.engine.plan import prepare
from gaptune.engine.signals import Stop
from gaptune.ledger import in_use, load
from gaptune.space.parse import load_space

pytestmark = pytest.mark.whole


class Silent:
    """An observer that shows nothing."""

    def __call__(self, event):
        pass

    def start(self, record, total):
        pass

    def progress(self, number, epochs):
        pass

    def say(self, line):
        pass

    def close(self):
        return True


class BrokenError(Exception):
    """What the test raises."""


def broken(*args, **kwargs):
    raise BrokenError


@pytest.fixture
def plan_again(tmp_path, small_store, empty_store):
    """Plans the same sweep each time; its ledger is copied to a storage, so that there is a backup, too."""
    space, config = write_yaml(tmp_path, small_store, more=f"storage: file://{tmp_path}/far\n")
    (tmp_path / "results").mkdir()
    shutil.copy(empty_store, tmp_path / "results" / "mlflow.db")
    about = {"name": "s", "results": tmp_path / "results", "command": ""}
    return lambda: prepare(load_space(space), load_sweep_config(config), now=time.time(), **about)


def drive(plan, display):
    return driver.drive(plan, Stop(), display=display, results=plan.folder.parent, tracking_uri=None, clock=time.time)


@pytest.mark.parametrize("part", ["Study", "Backup", "Retention", "Orchestrator", "run_trials", "evaluate_front"])
def test_error_in_any_part_leaves_no_thread_and_no_lock(plan_again, monkeypatch, part):
    plan, before = plan_again(), set(threading.enumerate())
    monkeypatch.setattr(driver, "run_trials", lambda *args: True)
    owner, name = (driver.Orchestrator, "resume") if part == "Orchestrator" else (driver, part)
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(BrokenError):
        drive(plan, Silent())
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(60)  # the tracker is given up while it makes the store, and ends when it has made it
    assert [thread.name for thread in left if thread.is_alive()] == []
    assert not in_use(plan.folder)


def test_session_ends_in_order_and_is_resumed(tmp_path, plan_again, monkeypatch):
    order = []

    def noted(owner, name):
        real = getattr(owner, name)

        def method(self, *args, **kwargs):
            if (owner, name) not in order:
                order.append((owner, name))
            return real(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, method)

    for owner in (Silent, driver.Orchestrator, driver.Retention, driver.Backup, driver.Tracker):
        noted(owner, "close")
    monkeypatch.setattr(driver, "run_trials", lambda *args: False)
    first = drive(plan_again(), Silent())
    assert [owner.__name__ for owner, _ in order] == ["Silent", "Orchestrator", "Retention", "Backup", "Tracker"]
    assert first.paused == "interrupted"
    again = drive(plan_again(), Silent())
    assert (first.sessions, again.sessions) == (1, 2)
    assert load(tmp_path / "results" / "s") == again
    assert (tmp_path / "far" / "s" / "ledger").is_dir()
