"""Calls in processes of their own: all results, whatever happens to the processes, and none that stays behind."""

import os
import time
from contextlib import closing

import psutil
import pytest
import ray

from gaptune.engine.calls import results_of

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("local_ray")]


def square(number):
    return number**2


def fails(number):
    raise ValueError(f"{number} is refused")


def dies_until(file, times):
    """Ends its process, as the kernel does, a number of times."""
    with file.open("a") as log:
        log.write(f"{os.getpid()}\n")
    if len(file.read_text().split()) <= times:
        os._exit(9)
    return "done"


def notes_itself(folder):
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def called(function, *calls, processes=2, look=lambda: None):
    found = results_of(function, calls, processes=processes, cpus=1, gpus=0, look=look)
    with closing(found):
        return dict(found)


def test_each_call_has_its_result():
    assert called(square, *((number,) for number in range(7))) == {number: number**2 for number in range(7)}


def test_more_processes_than_fit_take_turns():
    assert called(square, *((number,) for number in range(5)), processes=5) == {n: n**2 for n in range(5)}


def test_a_call_that_raises_is_an_error_and_the_others_continue():
    found = called(fails, (1,), (2,), processes=1)
    assert [str(found[number].cause) for number in (0, 1)] == ["1 is refused", "2 is refused"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_call_whose_process_dies_is_repeated_twice(tmp_path, times):
    assert called(dies_until, (tmp_path / "log", times)) == {0: "done"}


def test_a_call_whose_process_always_dies_is_an_error(tmp_path):
    found = called(dies_until, (tmp_path / "log", 99), (tmp_path / "fine", 0), processes=1)
    assert isinstance(found[0], ray.exceptions.RayError)
    assert found[1] == "done"
    assert len((tmp_path / "log").read_text().split()) == 3


def test_an_interruption_leaves_no_process(tmp_path):
    def look():
        if len(list(tmp_path.iterdir())) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        called(notes_itself, (tmp_path,), (tmp_path,), (tmp_path,), look=look)
    processes = [int(file.name) for file in tmp_path.iterdir()]
    assert len(processes) == 2
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
