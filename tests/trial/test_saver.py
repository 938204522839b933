"""Reports count once their checkpoints are on the disk."""

import threading

import pytest
import torch

from gaptune.trial.saver import Report, Saver, snapshot


class Kept:
    """Checkpoints that are written when they may be, or never."""

    def __init__(self, error=None):
        self.may_write = threading.Event()
        self.written = {}
        self.error = error

    def save(self, epoch, state):
        assert self.may_write.wait(30)
        if self.error:
            raise self.error
        self.written[epoch] = state


def report(epoch):
    return Report(epoch, 4 * epoch, {"train/loss": 1.0})


def test_report_is_held_back_until_its_checkpoint_is_written():
    kept = Kept()
    with Saver(kept, beside=True) as saver:
        saver.save(report(1), {"model": {}})
        assert list(saver.saved()) == []
        kept.may_write.set()
        assert list(saver.saved(wait=True)) == [report(1)]
        assert list(saver.saved()) == []


def test_checkpoint_holds_what_was_true_when_it_was_asked_for():
    kept, weights = Kept(), torch.ones(3)
    with Saver(kept, beside=True) as saver:
        saver.save(report(1), {"model": {"w": weights}, "optimizer": {"groups": [{"lr": 0.1}]}})
        weights.zero_()
        kept.may_write.set()
        list(saver.saved(wait=True))
    assert torch.equal(kept.written[1]["model"]["w"], torch.ones(3))
    assert kept.written[1]["optimizer"] == {"groups": [{"lr": 0.1}]}


def test_error_of_writing_reaches_the_training_in_place_of_the_report():
    kept = Kept(OSError(28, "No space left on device"))
    with Saver(kept, beside=True) as saver:
        saver.save(report(1), {})
        kept.may_write.set()
        with pytest.raises(OSError, match="No space left"):
            list(saver.saved(wait=True))


def test_what_was_begun_is_written_before_the_saver_ends():
    kept = Kept()
    with Saver(kept, beside=True) as saver:
        saver.save(report(1), {"data": 1})
        kept.may_write.set()
    assert kept.written == {1: {"data": 1}}


@pytest.mark.parametrize("beside", [True, False])
def test_without_checkpoints_reports_count_at_once(beside):
    with Saver(None, beside=beside) as saver:
        saver.save(report(1), {})
        assert list(saver.saved()) == [report(1)]


def test_snapshot_shares_no_memory():
    state = {"a": torch.arange(3), "b": [{"c": torch.ones(2, 2)}, 5, "text"]}
    copy = snapshot(state)
    state["a"].zero_()
    state["b"][0]["c"].zero_()
    assert copy["a"].tolist() == [0, 1, 2]
    assert copy["b"][0]["c"].sum() == 4
    assert copy["b"][1:] == [5, "text"]


def test_snapshot_has_the_order_in_memory_of_what_it_copies():
    kernel = torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last)
    assert snapshot(kernel).stride() == kernel.stride()
