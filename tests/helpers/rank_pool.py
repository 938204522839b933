"""Processes that train one model together, as many as a test wants; forked from one that has imported torch."""

import multiprocessing
import socket
from multiprocessing.connection import wait
from unittest.mock import patch

CONTEXT = multiprocessing.get_context("forkserver")


class Pool:
    """Processes that run functions of a test as ranks; one that has ended is replaced before the next run."""

    def __init__(self):
        CONTEXT.set_forkserver_preload(["gaptune.trial.loop", "open_clip"])
        self._ranks = []

    def run(self, size, function, *args):
        """What ``function(ranks, *args)`` gives on each rank, or what it raises; None of one that was killed."""
        self._ranks = [each for each in self._ranks if each[0].is_alive()]
        while len(self._ranks) < size:
            ours, theirs = CONTEXT.Pipe()
            process = CONTEXT.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._ranks.append((process, ours))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        chosen = self._ranks[:size]
        for rank, (_, pipe) in enumerate(chosen):
            pipe.send((rank, size, address, function, args))
        return _answers(chosen)

    def close(self):
        for process, pipe in self._ranks:
            pipe.close()
            process.join(10)


def _answers(chosen):
    """What each answers. Whoever waits for one that has ended is ended soon, as an engine ends the ranks of a trial."""
    answers, missing, patience = {}, {pipe: number for number, (_, pipe) in enumerate(chosen)}, 120
    while missing:
        ready = wait(list(missing), timeout=patience)
        for pipe in ready or list(missing):
            number = missing.pop(pipe)
            try:
                answers[number] = pipe.recv() if ready else TimeoutError("the rank hangs")
            except EOFError:
                answers[number], patience = None, 3
            if not ready or answers[number] is None:
                chosen[number][0].kill()
                chosen[number][0].join(10)
    return [answers[number] for number in range(len(chosen))]


def _serve(pipe):
    import torch

    from gaptune.trial.ranks import join, leave

    torch.set_num_threads(1)
    while True:
        try:
            rank, size, address, function, args = pipe.recv()
        except EOFError:
            return
        try:
            answer = function(join(rank, size, address, timeout=60), *args)
        except Exception as error:
            answer = error
        finally:
            leave()
        pipe.send(answer)


def doubled(loop):
    """Contexts in which trainings compute in double precision, so that only a mistake makes a difference."""
    make_model, scale = loop.make_model, loop.LogitScale

    def made(*args, **more):
        model = make_model(*args, **more).double()
        for name in ("embed_images", "embed_texts"):
            embed = getattr(model, name)
            setattr(model, name, lambda x, embed=embed: embed(x.double() if x.is_floating_point() else x))
        return model

    return patch.object(loop, "make_model", made), patch.object(loop, "LogitScale", lambda given: scale(given).double())
