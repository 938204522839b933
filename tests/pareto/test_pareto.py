"""Fronts, layers, hypervolumes and priorities: properties, and parity with brute force and with Optuna."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume
from optuna.study._multi_objective import _fast_non_domination_rank, _is_pareto_front

from gaptune.pareto.dominance import front, layers
from gaptune.pareto.hypervolume import attained, contributions, hypervolume, normalized_hypervolume
from gaptune.pareto.objectives import Objective, Objectives
from gaptune.pareto.ranking import crowding, epsilon_net, last_in_layer, priority
from gaptune.pareto.sorted_points import SortedPoints

RULES = ["epsilon_net", "crowding", "hypervolume"]
SMALL = st.integers(-3, 3).map(float)  # few values, so that ties are common
ANY = st.floats(-1e6, 1e6)


@st.composite
def clouds(draw, values=SMALL | ANY, most=14, objectives=(1, 2, 3, 4)):
    """Points of shape (n, m), many of them equal to others in a coordinate or in all."""
    shape = draw(st.integers(1, most)), draw(st.sampled_from(objectives))
    return draw(arrays(np.float64, shape, elements=values))


def dominates(a, b):
    return bool((a >= b).all() and (a > b).any())


def plain_front(points):
    return [not np.isnan(point).any() and not any(dominates(other, point) for other in points) for point in points]


def plain_layers(points):
    layer, rest, depth = {}, [i for i, point in enumerate(points) if not np.isnan(point).any()], 0
    while rest:
        on_front = [i for i in rest if not any(dominates(points[j], points[i]) for j in rest)]
        layer |= dict.fromkeys(on_front, depth)
        rest = [i for i in rest if i not in on_front]
        depth += 1
    return [layer.get(i, depth) for i in range(len(points))]


def plain_hypervolume(points, reference):
    """By inclusion and exclusion over all sets of points."""
    sides = np.maximum(points - reference, 0.0)
    total = 0.0
    for size in range(1, len(sides) + 1):
        for chosen in itertools.combinations(sides, size):
            total += (-1) ** (size + 1) * np.prod(np.min(chosen, axis=0))
    return total


def plain_attained(sets, count):
    """Of all crossings of coordinates, those that enough repeats attain and that none of the others is better than."""
    together = np.vstack(sets)
    crossings = np.array(list(itertools.product(np.unique(together[:, 0]), np.unique(together[:, 1]))))
    reached = [
        crossing for crossing in crossings if sum((points >= crossing).all(axis=1).any() for points in sets) >= count
    ]
    return sorted(point.tolist() for point, kept in zip(reached, plain_front(reached), strict=True) if kept)


def front_of(points):
    return points[front(points)]


def sphere(count, objectives):
    """Points that are all on the front."""
    points = np.abs(np.random.default_rng(0).normal(size=(count, objectives)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


# --- front and layers ---


@given(clouds(values=SMALL | ANY | st.sampled_from([np.nan, np.inf, -np.inf])))
def test_front_and_layers_agree_with_brute_force(points):
    assert front(points).tolist() == plain_front(points)
    assert layers(points).tolist() == plain_layers(points)


@given(clouds())
def test_front_and_layers_agree_with_optuna(points):
    assert front(points).tolist() == _is_pareto_front(-points, assume_unique_lexsorted=False).tolist()
    assert layers(points).tolist() == _fast_non_domination_rank(-points).tolist()


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_large_clouds_agree_with_optuna(objectives):
    points = np.random.default_rng(0).integers(0, 60, (2_000, objectives)).astype(float)
    assert front(points).tolist() == _is_pareto_front(-points, assume_unique_lexsorted=False).tolist()
    assert layers(points).tolist() == _fast_non_domination_rank(-points).tolist()


@pytest.mark.parametrize("largest", [np.inf, np.finfo(float).max])
@pytest.mark.parametrize("objectives", [1, 2, 3, 4, 5])
def test_the_largest_floats_are_handled_as_any_number(objectives, largest):
    """The C code marks ends of lists by them; given as they are, they end the process."""
    ordinary = np.random.default_rng(0).integers(-2, 3, (400, objectives)).astype(float)
    points = np.select([ordinary == -2, ordinary == 2], [-largest, largest], ordinary)
    assert front(points).tolist() == front(ordinary).tolist()
    assert layers(points).tolist() == layers(ordinary).tolist()
    assert hypervolume(points, np.zeros(objectives)) == np.inf or (objectives == 1 and largest < np.inf)


def test_points_are_read_in_any_memory_layout_and_left_as_they_are():
    points = np.random.default_rng(0).random((60, 6))
    for given_as in (np.asfortranarray(points), points[:, ::2], points[::-1], np.broadcast_to(points[:1], (3, 6))):
        plain = given_as.copy(order="C")
        reference = np.zeros(plain.shape[1])
        assert front(given_as).tolist() == front(plain).tolist()
        assert layers(given_as).tolist() == layers(plain).tolist()
        assert hypervolume(given_as, reference) == hypervolume(plain, reference)
        assert (given_as == plain).all()


@given(clouds(values=SMALL | st.just(np.nan)))
def test_a_point_with_nan_is_behind_all_others_and_changes_nothing_for_them(points):
    broken = np.isnan(points).any(axis=1)
    assert not front(points)[broken].any()
    assert front(points)[~broken].tolist() == front(points[~broken]).tolist()
    if broken.any() and not broken.all():
        assert layers(points)[broken].min() > layers(points)[~broken].max()


def test_nothing_has_an_empty_front():
    assert front(np.empty((0, 2))).tolist() == []
    assert layers(np.empty((0, 2))).tolist() == []
    assert crowding(np.empty((0, 2))).tolist() == []
    assert priority(np.empty((0, 2)), "epsilon_net").tolist() == []


def test_maximized_values_have_the_sign_of_minimized_objectives_changed():
    both = Objectives([Objective("a", True), Objective("b", False)])
    assert both.maximized([[1.0, 2.0], [3.0, 4.0]]).tolist() == [[1.0, -2.0], [3.0, -4.0]]
    assert both.maximized([]).shape == (0, 2)


@given(clouds(), st.lists(st.booleans(), min_size=4, max_size=4))
def test_maximizing_values_twice_gives_them_back(points, maximize):
    some = Objectives(Objective(str(index), up) for index, up in enumerate(maximize[: points.shape[1]]))
    assert np.array_equal(some.maximized(some.maximized(points)), points, equal_nan=True)


def test_the_hypervolume_of_objectives_is_a_fraction_of_the_volume_between_their_corners():
    both = Objectives([Objective("recall", True, 0.0, 1.0), Objective("gap", False, 2.0, 0.0)])
    assert both.reference_point.tolist() == [0.0, -2.0]
    assert both.ideal_point.tolist() == [1.0, 0.0]
    assert both.hypervolume([[0.5, 1.0]]) == pytest.approx(0.25)
    assert both.hypervolume([]) == 0.0
    assert both.hypervolume([[1.0, 0.0]]) == 1.0


def test_an_objective_without_an_ideal_value_is_unbounded():
    some = Objectives([Objective("recall", True, 0.0, 1.0), Objective("gap", False)])
    assert some.unbounded == ["gap"]
    assert np.isnan(some.hypervolume([[0.5, 1.0]]))


@pytest.mark.parametrize("shape", ["cloud", "all on the front"])
def test_the_front_of_ten_thousand_points_takes_less_than_half_a_second(shape):
    points = np.random.default_rng(0).random((10_000, 2))
    if shape != "cloud":
        points[:, 1] = -points[:, 0]
    started = time.process_time()
    front(points)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("shape", ["cloud", "chain"])
def test_the_layers_of_ten_thousand_points_take_less_than_two_seconds(shape):
    points = np.random.default_rng(0).random((10_000, 2))
    if shape == "chain":
        points[:, 1] = points[:, 0]  # each dominates the next: as many layers as points
    started = time.process_time()
    depth = layers(points).max()
    assert time.process_time() - started < 2.0
    assert shape == "cloud" or depth == 9_999


# --- hypervolume ---


@given(clouds(values=SMALL, most=7))
def test_hypervolume_agrees_with_inclusion_and_exclusion(points):
    reference = np.full(points.shape[1], -1.0)
    assert hypervolume(points, reference) == pytest.approx(plain_hypervolume(points, reference), abs=1e-9)


@given(clouds(values=SMALL | st.floats(0, 1)))
def test_hypervolume_agrees_with_optuna(points):
    reference = np.full(points.shape[1], -3.0)
    assert hypervolume(points, reference) == pytest.approx(compute_hypervolume(-points, -reference), rel=1e-9)


@pytest.mark.whole
@settings(max_examples=1000, deadline=None)
@given(clouds(values=SMALL | st.floats(0, 1) | st.just(np.nan), objectives=(2, 3, 4)))
def test_with_ties_and_nan_front_layers_and_hypervolume_are_optunas_of_what_is_whole(points):
    kept = ~np.isnan(points).any(axis=1)
    whole = points[kept]
    mask, layer, reference = front(points), layers(points), np.full(points.shape[1], -3.0)
    assert mask.sum() == front(whole).sum()
    if len(whole) == 0:
        assert hypervolume(points, reference) == 0.0
        return
    assert mask[kept].tolist() == _is_pareto_front(-whole, assume_unique_lexsorted=False).tolist()
    assert layer[kept].tolist() == _fast_non_domination_rank(-whole).tolist()
    assert hypervolume(points, reference) == pytest.approx(compute_hypervolume(-whole, -reference), rel=1e-9)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_the_hypervolume_of_a_large_front_agrees_with_optuna(objectives):
    points = sphere(150, objectives)
    expected = compute_hypervolume(-points, np.zeros(objectives))
    assert hypervolume(points, np.zeros(objectives)) == pytest.approx(expected, rel=1e-12)


@given(clouds(values=SMALL | st.floats(0, 1)), st.lists(st.sampled_from([1e-80, 1.0, 1e70]), min_size=4, max_size=4))
def test_hypervolume_scales_with_its_objectives(points, scales):
    m = points.shape[1]
    volume = hypervolume(points, np.full(m, -3.0))
    scaled = hypervolume(points * scales[:m], np.full(m, -3.0) * scales[:m])
    assert scaled == pytest.approx(volume * np.prod(scales[:m]), rel=1e-9)


def test_volumes_that_no_float_can_hold_are_zero_or_infinite():
    points = np.array([[1e-300, 2e-300], [2e-300, 1e-300]])
    assert hypervolume(points, [0.0, 0.0]) == 0.0
    assert hypervolume(points * 1e301, [0.0, 0.0]) == pytest.approx(300.0)
    assert hypervolume(points * 1e301 * 1e299, [0.0, 0.0]) == np.inf
    assert hypervolume(np.array([[5e-324, 1.0]]), [0.0, 0.0]) == 5e-324


def test_hypervolume_of_one_objective_is_the_best_points_distance():
    assert hypervolume(np.array([[2.0], [5.0], [-9.0]]), [1.0]) == 4.0


def test_points_that_are_not_better_than_the_reference_add_nothing():
    assert hypervolume(np.array([[2.0, 0.0], [0.0, 2.0], [-1.0, 5.0]]), [0.0, 0.0]) == 0.0
    assert hypervolume(np.array([[2.0, 3.0], [np.nan, 9.0]]), [0.0, 0.0]) == 6.0
    assert hypervolume(np.empty((0, 2)), [0.0, 0.0]) == 0.0


@given(clouds(values=st.floats(-2, 3) | SMALL))
def test_the_normalized_hypervolume_is_a_fraction_that_grows_with_points(points):
    m = points.shape[1]
    fraction = [normalized_hypervolume(points[:count], [-1.0] * m, [2.0] * m) for count in range(len(points) + 1)]
    assert fraction[0] == 0.0
    assert max(fraction) <= 1.0
    assert all(after >= before - 1e-12 for before, after in itertools.pairwise(fraction))


def test_the_normalized_hypervolume_is_one_at_the_ideal_and_beyond():
    assert normalized_hypervolume(np.array([[1.0, -0.5]]), [0.0, -2.0], [1.0, -0.5]) == 1.0
    assert normalized_hypervolume(np.array([[7.0, 9.0]]), [0.0, -2.0], [1.0, -0.5]) == 1.0
    assert normalized_hypervolume(np.array([[0.5, 0.0]]), [0.0, -2.0], [1.0, 0.0]) == 0.5


# --- attainment ---


@settings(deadline=None)
@given(st.lists(clouds(values=SMALL, most=6, objectives=(2,)), min_size=1, max_size=5))
def test_attainment_surfaces_are_what_enough_repeats_attain(sets):
    for count in range(1, len(sets) + 1):
        assert attained(sets, count).tolist() == plain_attained(sets, count)


def test_any_number_of_repeats_can_be_asked_for():
    for repeats in (3, 7, 29, 100):
        sets = [np.array([[index, index]], dtype=float) for index in range(repeats)]
        for count in range(1, repeats + 1):
            assert attained(sets, count).tolist() == [[repeats - count, repeats - count]]


@given(st.lists(clouds(values=SMALL, most=6, objectives=(2,)), min_size=1, max_size=5))
def test_what_all_but_one_attain_contains_what_all_attain(sets):
    surfaces = [attained(sets, count) for count in range(1, len(sets) + 1)]
    for better, worse in itertools.pairwise(surfaces):
        assert all((better >= point).all(axis=1).any() for point in worse)
    assert len(surfaces[0]) == len(np.unique(front_of(np.vstack(sets)), axis=0))


def test_points_with_nan_are_attained_by_nobody():
    broken = np.array([[np.nan, 9.0], [1.0, 2.0]])
    assert attained([broken, np.array([[2.0, 1.0]])], 2).tolist() == [[1.0, 1.0]]
    assert attained([broken, np.empty((0, 2))], 1).tolist() == [[1.0, 2.0]]
    assert attained([broken, np.empty((0, 2))], 2).tolist() == []


# --- rules of diversity ---


def test_crowding_is_nsga2s_distance():
    points = np.array([[0.0, 10.0], [1.0, 6.0], [4.0, 5.0], [10.0, 0.0]])
    expected = [np.inf, 4 / 10 + 5 / 10, 9 / 10 + 6 / 10, np.inf]
    assert crowding(points).tolist() == pytest.approx(expected)


def test_an_objective_that_does_not_vary_changes_no_crowding():
    points = np.array([[0.0, 10.0], [1.0, 6.0], [4.0, 5.0], [10.0, 0.0]])
    assert crowding(np.column_stack([points, np.full(4, 7.0)])).tolist() == crowding(points).tolist()
    assert crowding(np.ones((3, 2))).tolist() == [0.0, 0.0, 0.0]


@given(clouds(values=SMALL, most=8))
def test_contributions_are_what_is_lost_without_a_point(points):
    reference = np.full(points.shape[1], -4.0)
    whole = plain_hypervolume(points, reference)
    lost = [whole - plain_hypervolume(np.delete(points, i, axis=0), reference) for i in range(len(points))]
    assert contributions(points, reference).tolist() == pytest.approx(lost, abs=1e-9)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_a_contribution_however_small_is_there(objectives):
    points = np.ones((2, objectives))
    points[1] = [*[1e-3] * (objectives - 1), 1 + 1e-3]
    lost = contributions(points, np.zeros(objectives))
    assert lost.tolist() == pytest.approx([1 - 1e-3 ** (objectives - 1), 1e-3**objectives], rel=1e-9)


def test_the_contributions_of_three_hundred_points_in_four_objectives_take_less_than_a_second():
    started = time.process_time()
    lost = contributions(sphere(300, 4), np.zeros(4))
    assert time.process_time() - started < 1.0
    assert lost.min() > 0.0


def test_the_epsilon_net_takes_the_best_sum_then_the_farthest_each_time():
    line = np.array([[0.0, 8.0], [1.0, 7.0], [4.0, 5.0], [7.0, 1.0], [8.0, 0.0]])  # the third sums up to most
    # Of the two that lie between, equally far from what is chosen, the one with the smaller values comes first.
    assert epsilon_net(line).tolist() == [2, 3, 0, 4, 1]


# --- priority ---


@pytest.mark.parametrize("rule", RULES)
def test_points_in_a_row_are_ranked_in_their_order(rule):
    points = -np.array([[5.0, 5], [0, 0], [6, 6], [1, 1]])
    assert priority(points, rule).tolist() == [2, 0, 3, 1]


@pytest.mark.parametrize("rule", RULES)
@given(points=clouds(values=SMALL | st.just(np.nan)), random=st.randoms(use_true_random=False))
def test_permuting_the_points_permutes_the_ranks(rule, points, random):
    order = random.sample(range(len(points)), len(points))
    assert priority(points[order], rule).tolist() == priority(points, rule)[order].tolist()


@pytest.mark.parametrize("rule", RULES)
@given(points=clouds())
def test_a_dominated_point_never_comes_before_its_dominator(rule, points):
    rank = priority(points, rule)
    for (i, a), (j, b) in itertools.permutations(enumerate(points), 2):
        if dominates(a, b):
            assert rank[i] < rank[j]


@pytest.mark.parametrize("rule", RULES)
@given(
    points=clouds(values=SMALL | st.just(np.nan)),
    scales=st.lists(st.sampled_from([0.001, 0.3, 2.0, 1000.0]), min_size=4, max_size=4),
    shifts=st.lists(st.sampled_from([-7.0, 0.0, 0.1, 50.0]), min_size=4, max_size=4),
)
def test_scaling_and_shifting_the_objectives_changes_nothing(rule, points, scales, shifts):
    m = points.shape[1]
    moved = points * scales[:m] + shifts[:m]
    assert priority(moved, rule).tolist() == priority(points, rule).tolist()


@pytest.mark.parametrize("rule", RULES)
@given(points=clouds(values=SMALL | st.just(np.nan)))
def test_nan_comes_last_and_all_of_it_shares_the_last_rank(rule, points):
    rank, broken = priority(points, rule), np.isnan(points).any(axis=1)
    assert set(rank[broken]) <= {len(points) - 1}
    assert (rank[~broken] < (~broken).sum()).all()


@pytest.mark.parametrize("rule", RULES)
@given(points=clouds(values=SMALL))
def test_equal_points_share_the_rank_of_the_last_of_them(rule, points):
    rank = priority(points, rule)
    for (i, a), (j, b) in itertools.combinations(enumerate(points), 2):
        if (a == b).all():
            assert rank[i] == rank[j]
    # A rank is the number of points that are not behind, less one: whoever ties has as many before it as can be.
    assert rank.tolist() == [int((rank <= own).sum()) - 1 for own in rank]


def test_within_the_front_crowding_and_hypervolume_prefer_isolated_points():
    points = np.array([[0.0, 10.0], [1.0, 9.0], [1.5, 8.5], [6.0, 6.0], [10.0, 0.0]])
    assert priority(points, "crowding").tolist() == [1, 4, 3, 2, 1]
    assert priority(points, "hypervolume").tolist().index(0) == 3  # alone in the middle


# --- points that arrive one by one ---


@given(points=clouds())
def test_points_that_arrive_one_by_one_are_in_the_same_layers_as_all_at_once(points):
    arrived = SortedPoints()
    for count in range(1, len(points) + 1):
        before, mine = arrived.add(points[count - 1])
        layer = layers(points[:count])
        assert len(arrived) == count
        assert before == np.count_nonzero(layer < layer[-1])
        assert sorted(mine.tolist()) == sorted(points[:count][layer == layer[-1]].tolist())
        assert mine[-1].tolist() == points[count - 1].tolist()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_many_points_that_arrive_in_order_are_in_layers_of_their_own(sign):
    """Each better than all before it, which moves all of them back, or worse."""
    arrived = SortedPoints()
    for value in range(300):
        before, mine = arrived.add([sign * value, sign * value, 0.0])
        assert before == (0 if sign > 0 else value)
        assert mine.tolist() == [[sign * value, sign * value, 0.0]]


def test_points_of_a_cloud_have_the_layers_of_all_at_once():
    points = np.random.default_rng(0).normal(size=(600, 3)).round(1)
    arrived = SortedPoints()
    for point in points[:-1]:
        arrived.add(point)
    layer = layers(points)
    before, mine = arrived.add(points[-1])
    assert (before, len(mine)) == (np.count_nonzero(layer < layer[-1]), np.count_nonzero(layer == layer[-1]))


@pytest.mark.parametrize("rule", RULES)
@given(points=clouds(values=SMALL))
def test_the_last_of_a_layer_has_the_same_rank_alone_as_with_all(rule, points):
    mine = points[layers(points) == 0]
    assert last_in_layer(mine, rule) == priority(mine, rule)[-1]
