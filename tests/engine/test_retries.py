"""How often a trial is retried: failures of its own count, losses of its node do not."""

from dataclasses import replace

import pytest

from gaptune.engine.failures import Failure
from gaptune.engine.retries import MAX_LOSSES, Retries

KILLED = Failure("worker lost: killed", lost="worker")
RAISED = Failure("exception: ValueError", has_traceback=True)
GONE = Failure("node lost: The actor died", lost="node")


@pytest.fixture
def lost():
    """Ids of lost nodes."""
    return set()


@pytest.fixture
def retries(lost):
    return Retries(lambda node: f"name of {node}", lambda node, patience: node in lost)


def test_the_node_of_the_rank_that_failed_decides_and_not_that_of_the_actor_which_waits_for_it(retries, lost):
    lost.add("of the rank")
    judged = retries.after("a", replace(KILLED, node="of the rank"), "of the actor", 1)
    assert (judged.may_pass, judged.reason) == (True, "node lost: name of of the rank")
    assert retries.after("b", KILLED, "of the actor", 1).reason == KILLED.reason


@pytest.mark.parametrize("failure", [KILLED, RAISED])
def test_a_third_failure_of_its_own_ends_a_trial(retries, failure):
    judged = [retries.after("a", failure, f"node {number}", number) for number in range(3)]
    assert [one.may_pass for one in judged] == [True, True, False]
    assert {one.reason for one in judged} == {failure.reason}
    assert retries.after("another", failure, "node", 0).may_pass


def test_lost_nodes_are_named_and_never_end_a_trial_that_gets_on(retries):
    for epoch in range(20):
        assert retries.after("a", GONE, "n1", epoch) == Failure("node lost: name of n1", lost="node", node="n1")
    assert retries.after("a", KILLED, "n1", 20).may_pass


def test_the_end_of_a_worker_with_its_node_is_the_loss_of_the_node(retries, lost):
    lost.add("n1")
    for epoch in range(5):
        assert retries.after("a", KILLED, "n1", epoch).reason == "node lost: name of n1"


def test_a_failure_no_longer_counts_once_its_node_is_lost(retries, lost):
    assert retries.after("a", KILLED, "n1", 0).may_pass
    assert retries.after("a", KILLED, "n2", 0).may_pass
    lost.add("n1")
    assert retries.after("a", KILLED, "n3", 0).may_pass
    assert not retries.after("a", KILLED, "n4", 0).may_pass


def test_only_the_end_of_a_worker_that_would_be_final_waits_for_its_node():
    waits = []

    def alive(node, patience):
        waits.append(patience)
        return False

    retries = Retries(str, alive)
    for number in range(3):
        retries.after("a", KILLED, f"n{number}", 0)
    assert [wait for wait in waits if wait] == waits[-1:]


def test_a_trial_whose_nodes_are_lost_one_after_the_other_without_a_report_has_failed(retries):
    judged = [retries.after("a", GONE, f"n{number}", 3) for number in range(MAX_LOSSES)]
    assert [one.may_pass for one in judged] == [True] * 4 + [False]
    assert judged[-1].reason.startswith("node lost: name of n4 (5 nodes lost in a row without a new report")


def test_what_a_retry_would_not_cure_is_not_retried(retries, lost):
    lost.add("n1")
    hopeless = Failure("out of memory", may_pass=False)
    assert retries.after("a", hopeless, "n1", 0) is hopeless
