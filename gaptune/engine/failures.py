"""Why trials fail: every cause that gaptune knows by name, and what follows from it.

A worker sees exceptions (``KNOWN_ERRORS``). The driver sees the text that Ray keeps of what a worker did not catch, or
did not survive (``RAY_FAILURES``). A new cause is a new row of one of the two tables.
"""

from __future__ import annotations

import errno
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from gaptune.config import TrialConfig
from gaptune.engine.messages import WorkerMessage, WorkerTask
from gaptune.engine.shared_paths import NotSharedError
from gaptune.errors import UserError
from gaptune.ledger import LostError

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_NOT_DETERMINISTIC = "does not have a deterministic implementation"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: |$)")
"""How the last line of a traceback begins."""
_NODE = re.compile(r"[Nn]ode [Ii]d: ?([0-9a-f]{56})")
_OF_RANK = re.compile(r"RankFailed: (rank \d+ of \d+) on node (\w+)$")
"""The line before what Ray tells of a rank."""


class KnownError(NamedTuple):
    """A kind of exception that a retry would not cure.

    Attributes:
        matches: Whether an exception is of this kind.
        message: What the worker reports of the exception.
    """

    matches: Callable[[Exception], bool]
    message: Callable[[Exception, WorkerTask], WorkerMessage]


# What needs torch imports it in a function: a worker has imported it, the driver need not.


def _is_non_finite(error: Exception) -> bool:
    from gaptune.trial import NonFinite

    return isinstance(error, NonFinite)


def non_finite(error: Exception) -> str:
    """Why a trial ends with a ``NonFinite``."""
    return f"non-finite: {error}"


def _is_no_gpu(error: Exception) -> bool:
    from gaptune.trial.device import NoGpuError

    return isinstance(error, NoGpuError)


def _no_gpu(error: Exception, task: WorkerTask) -> WorkerMessage:
    """No trial continues: the node is free again at once, so it would take and fail one trial after the other."""
    return WorkerMessage(halt=f"trial {task.numbers[0]} cannot use its GPU on {platform.node()}: {error}")


def _not_shared(error: Exception, task: WorkerTask) -> WorkerMessage:
    """No trial continues: every trial on that node would be lost to the others."""
    return WorkerMessage(halt=f"{platform.node()} does not see the results of the sweep: {error}")


def _is_out_of_memory(error: Exception) -> bool:
    from gaptune.trial.gpu_memory import is_out_of_memory

    return is_out_of_memory(error)


def _out_of_memory(error: Exception, task: WorkerTask) -> WorkerMessage:
    from gaptune.trial.gpu_memory import memory_use, out_of_memory

    training = TrialConfig.model_validate(task.trials[0].config).training
    reason = out_of_memory(error, training, on_gpu=task.gpu > 0, use=memory_use())
    return WorkerMessage(failure=reason, too_large=True)


def _is_not_deterministic(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and _NOT_DETERMINISTIC in str(error)


def _not_deterministic(error: Exception, task: WorkerTask) -> WorkerMessage:
    operation = str(error).partition(_NOT_DETERMINISTIC)[0]
    return WorkerMessage(failure=f"training.deterministic: {operation}{_NOT_DETERMINISTIC}; set it to false")


def _is_full_disk(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in _FULL_DISK


def _full_disk(error: Exception, task: WorkerTask) -> WorkerMessage:
    return WorkerMessage(
        halt=f"{getattr(error, 'strerror', error)} ({getattr(error, 'filename', None) or 'checkpoints'})"
    )


KNOWN_ERRORS: tuple[KnownError, ...] = (
    KnownError(_is_non_finite, lambda error, task: WorkerMessage(failure=non_finite(error))),
    KnownError(_is_no_gpu, _no_gpu),
    KnownError(lambda error: isinstance(error, NotSharedError), _not_shared),
    KnownError(lambda error: isinstance(error, UserError), lambda error, task: WorkerMessage(failure=str(error))),
    KnownError(_is_out_of_memory, _out_of_memory),
    KnownError(_is_not_deterministic, _not_deterministic),
    KnownError(_is_full_disk, _full_disk),
)


def message_of(error: Exception, task: WorkerTask) -> WorkerMessage | None:
    """What a worker reports of an exception in its trials; None for one that a retry may cure."""
    return next((known.message(error, task) for known in KNOWN_ERRORS if known.matches(error)), None)


@dataclass(frozen=True)
class Failure:
    """Why a trial failed the last time.

    Attributes:
        reason: One line for people.
        may_pass: Whether a retry may cure it.
        has_traceback: Whether Ray's text says more than the line.
        lost: What was lost, if it is not the trial that failed.
        node: Id of the node where that was, if known.
    """

    reason: str
    may_pass: bool = True
    has_traceback: bool = False
    lost: Literal["worker", "node"] | None = None
    node: str | None = None


class RayFailure(NamedTuple):
    """A kind of failure that Ray tells in words.

    Attributes:
        matches: Whether a text, by its lines, tells of it.
        failure: The failure, from these lines.
    """

    matches: Callable[[Sequence[str]], bool]
    failure: Callable[[Sequence[str]], Failure]


def _says(*parts: str) -> Callable[[Sequence[str]], bool]:
    return lambda lines: any(part in line for line in lines for part in parts)


def _is_lost_worker(lines: Sequence[str]) -> bool:
    return lines[0].startswith("The actor") and "creation task" not in lines[0]


def _lost_worker(lines: Sequence[str]) -> Failure:
    """What Ray knows of the end of a worker, without its advice."""
    detail = " ".join(lines).partition("Worker exit detail: ")[2] or lines[-1].strip()
    return Failure(
        f"worker lost: {detail.partition(' There are some potential root causes')[0].strip()}", lost="worker"
    )


def _lost_node(lines: Sequence[str]) -> Failure:
    named = _NODE.search(" ".join(lines))
    return Failure(f"node lost: {lines[0]}", lost="node", node=named[1] if named else None)


def _exception(lines: Sequence[str]) -> Failure:
    named = [line for line in lines if _EXCEPTION.match(line)]  # its message may have further lines
    return Failure(f"exception: {(named or lines)[-1].strip()}", has_traceback=True)


RAY_FAILURES: tuple[RayFailure, ...] = (
    RayFailure(
        _says("OutOfMemoryError", "running low on memory"),
        lambda lines: Failure("out of memory: the machine ran short, and Ray ended the worker", may_pass=False),
    ),
    RayFailure(_says("node has died", "node was terminated", "NodeDiedError"), _lost_node),
    RayFailure(_is_lost_worker, _lost_worker),
    RayFailure(lambda lines: True, _exception),
)


def failure_of(errors: str) -> Failure:
    """Why a trial failed last.

    Args:
        errors: The text that Ray keeps of a trial's errors, each under its own head.
    """
    last = errors.rpartition("Failure # ")[2]
    lines = [line for line in last.splitlines()[1:] if line.strip()] or ["unknown"]
    for number, line in enumerate(lines):
        if of_rank := _OF_RANK.search(line):
            failure = _failure_in(lines[number + 1 :])
            return replace(failure, reason=f"{failure.reason} ({of_rank[1]})", node=failure.node or of_rank[2])
    return _failure_in(lines)


def _failure_in(lines: list[str]) -> Failure:
    lines[0] = lines[0].strip()
    return next(known.failure(lines) for known in RAY_FAILURES if known.matches(lines))


def ledger_failure(error: OSError) -> str | None:
    """Why the sweep cannot continue, if its ledger can no longer be written; None for any other error."""
    if isinstance(error, LostError):
        return str(error)
    return f"{error.strerror} (the ledger)" if error.errno in _FULL_DISK else None
