"""Who has not moved for long is noticed; who was merely not looked at is not."""

from gaptune.engine.heartbeat import Watch


class World:
    """A clock, and what workers have written."""

    def __init__(self):
        self.now = 0.0
        self.written = {}

    def watch(self, limit):
        return Watch(limit, read=self.written.get, clock=lambda: self.now)

    def after(self, seconds, watch, running):
        self.now += seconds
        return watch.stuck(running)


def test_trial_without_progress_is_named_once_and_one_with_progress_never():
    world = World()
    watch = world.watch(20.0)
    found = []
    for second in range(45):
        world.written["moves"] = str(second).encode()
        world.written["stands"] = b"7"
        found += [(second, one) for one in world.after(1.0, watch, ["moves", "stands", "never wrote"])]
    assert [one for _, one in found] == ["stands", "never wrote"] * 2
    assert [second for second, _ in found] == [20, 20, 41, 41]


def test_restarted_trial_has_the_whole_limit():
    world = World()
    watch = world.watch(20.0)
    for _ in range(15):
        assert world.after(1.0, watch, ["one"]) == []
    assert world.after(1.0, watch, []) == []
    for _ in range(15):
        assert world.after(1.0, watch, ["one"]) == []


def test_time_in_which_the_driver_was_stopped_does_not_count():
    """As under Ctrl-Z, or when a laptop sleeps."""
    world = World()
    watch = world.watch(20.0)
    world.after(1.0, watch, ["one"])
    assert world.after(10_000.0, watch, ["one"]) == []
    assert world.after(1.0, watch, ["one"]) == []


def test_without_a_limit_progress_is_read_and_nobody_is_stuck():
    world = World()
    watch = world.watch(None)
    world.written["a"] = b"1 0.5"
    for world.now in (10.0, 1e6, 1e9):
        assert watch.stuck(["a", "b"]) == []
    assert (watch.written("a"), watch.written("b"), watch.written("c")) == (b"1 0.5", None, None)


def test_many_trials_are_read_in_turn_and_a_look_is_short():
    world, reads = World(), []

    def read(place):
        reads.append(place)
        world.now += 0.01
        return world.written.get(place)

    watch = Watch(20.0, read=read, clock=lambda: world.now)
    running = [str(number) for number in range(30)]
    found = {}
    for _ in range(60):
        world.written.update(dict.fromkeys(running[:29], str(world.now).encode()))  # the last one stands
        before = len(reads)
        for place in world.after(1.0, watch, running):
            found.setdefault(place, world.now)
        assert len(reads) - before < 10
    counts = [reads.count(place) for place in running]
    assert max(counts) - min(counts) <= 1
    assert [*found] == ["29"]
    assert 20 <= found["29"] <= 30
