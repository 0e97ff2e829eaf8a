"""Statistics against recorded values of rliable 1.2.0.

Recorded once with rliable 1.2.0, numpy 2.4.6, scipy 1.17.1, pandas 2.3.3 on the
published scores at 500K frames of 18 proprio tasks (dreamerv3: 5 seeds, d4pg: 10
seeds), divided by 1000: `library.get_interval_estimates` with 50,000 resamples
(10,000 for the probability of improvement and the profiles) after
`np.random.seed(0)`.  Intervals depend on its random numbers and ours, hence the
tolerance.
"""

import numpy as np
import pytest

from reproductions import published as published_data
from reproductions import stats

RLIABLE = {
    "dreamerv3": {
        "mean": (0.753543, 0.729185, 0.777033),
        "median": (0.870566, 0.858957, 0.906067),
        "IQM": (0.866332, 0.846169, 0.882110),
        "optimality gap": (0.246457, 0.222967, 0.270815),
    },
    "d4pg": {
        "mean": (0.733374, 0.716440, 0.748831),
        "median": (0.792457, 0.777873, 0.854065),
        "IQM": (0.830948, 0.815170, 0.844081),
        "optimality gap": (0.266626, 0.251169, 0.283560),
    },
}
IMPROVEMENT = (0.471111, 0.407778, 0.534444)
THRESHOLDS = np.array([0, 100, 250, 500, 750, 900, 950, 990])
PROFILE = [0.988889, 0.955556, 0.866667, 0.833333, 0.688889, 0.455556, 0.266667]
PROFILE += [0.077778]
PROFILE_LOW = [0.966667, 0.922222, 0.844444, 0.788889, 0.644444, 0.411111, 0.222222]
PROFILE_HIGH = [1.0, 0.988889, 0.888889, 0.866667, 0.733333, 0.5, 0.311111]


@pytest.fixture(scope="module")
def published():
    table = published_data.scores("dmc_proprio")
    table = table[table.budget == 500_000]
    return {
        method: [g.score.to_numpy() for _, g in part.groupby("task")]
        for method, part in table.groupby("method")
    }


@pytest.mark.parametrize("method", RLIABLE)
@pytest.mark.parametrize("name", stats.AGGREGATES)
def test_aggregates_equal_the_reference(published, method, name):
    runs, statistic = published[method], stats.AGGREGATES[name]
    value, low, high = (1000 * x for x in RLIABLE[method][name])
    assert statistic(runs) == pytest.approx(value, abs=1e-3)
    interval = stats.bootstrap(statistic, runs, resamples=20_000)
    # The median of tasks moves in steps, so its quantiles are the coarsest.
    assert interval == pytest.approx((low, high), abs=2.0)


def test_probability_of_improvement_equals_the_reference(published):
    pair = published["dreamerv3"], published["d4pg"]
    value, low, high = IMPROVEMENT
    found = stats.probability_of_improvement(*pair)
    assert found == pytest.approx(value, abs=1e-5)
    back = stats.probability_of_improvement(*reversed(pair))
    assert found + back == pytest.approx(1)
    interval = stats.bootstrap(
        stats.probability_of_improvement, *pair, resamples=10_000
    )
    assert interval == pytest.approx((low, high), abs=0.006)


def test_performance_profile_equals_the_reference(published):
    def profile(runs):
        return stats.performance_profile(runs, THRESHOLDS)

    runs = published["dreamerv3"]
    np.testing.assert_allclose(profile(runs), PROFILE, atol=1e-5)
    low, high = stats.bootstrap(profile, runs, resamples=10_000)
    # One run of 90 is 0.011: a quantile may fall on the neighbouring step.
    np.testing.assert_allclose(low[:7], PROFILE_LOW, atol=0.012)
    np.testing.assert_allclose(high[:7], PROFILE_HIGH, atol=0.012)


def test_bootstrap_is_seeded_and_stratified():
    # Tasks far apart, seeds equal: resampling tasks would move the mean, seeds not.
    runs = [np.full(4, 10.0), np.full(6, 900.0)]
    assert stats.bootstrap(stats.mean, runs) == (455.0, 455.0)
    noisy = [np.array([1.0, 5.0, 9.0]), np.array([2.0, 3.0, 10.0])]
    first = stats.bootstrap(stats.mean, noisy, seed=3)
    assert first == stats.bootstrap(stats.mean, noisy, seed=3)
    assert first[0] < stats.mean(noisy) < first[1]


@pytest.mark.parametrize(
    ("runs", "value"),
    [
        # Six runs: 1/6 of the weight is cut off at each end. 0 and 40 weigh 1/4 each,
        # the others 1/8: what is left of 0 and of 400 is 1/12 and nothing, of 300 1/12.
        # (0/12 + 40/4 + 100/8 + 200/8 + 300/12) / (4/6) = 72.5 * 1.5
        (([0, 40], [100, 200, 300, 400]), 108.75),
        # Five runs, 1/5: of 99 2/15 is left, of 112 1/3, of the three of 450 2/15.
        (([450, 450, 450], [112], [99]), (99 * 2 + 112 * 5 + 450 * 2) / 9),
        # Three runs: a quarter of them, rounded down, is none.
        (([10], [20, 40]), 20),
        # Equal numbers: the middle half of all eight.
        (([1, 2, 3, 100], [4, 5, 6, 7]), (3 + 4 + 5 + 6) / 4),
    ],
)
def test_interquartile_mean_by_hand(runs, value):
    runs = [np.array(task, float) for task in runs]
    assert stats.iqm(runs) == pytest.approx(value)
    shuffled = [task[::-1] for task in runs[::-1]]
    assert stats.iqm(shuffled) == pytest.approx(value)


@pytest.mark.parametrize("statistic", [stats.mean, stats.median, stats.iqm])
def test_bootstrap_with_unequal_seeds_by_hand(statistic):
    """Three equal seeds and two: of the latter, a quarter of the draws has one twice.

    So the mean of the second task is 0, 50 or 100, and the ends of the interval are
    those of 0 and of 100. (A draw from all five runs would reach 1 and 100.)
    """
    runs = [np.ones(3), np.array([0.0, 100.0])]
    low, high = stats.bootstrap(statistic, runs)
    # Of five runs 1/5 is cut off: of the first task 3/10 is left, as of the second.
    assert (low, high) == pytest.approx((0.5, 50.5))


def test_one_seed_has_no_interval():
    runs = [np.array([1.0]), np.array([2.0, 3.0])]
    assert np.isnan(stats.bootstrap(stats.mean, runs)).all()
    assert np.isnan(stats.t_interval(np.array([5.0]))).all()


def test_tasks_weigh_the_same_whatever_their_seeds():
    runs = [np.array([0.0]), np.full(9, 100.0)]
    assert stats.mean(runs) == 50
    assert stats.iqm(runs) == pytest.approx(50)
    profile = stats.performance_profile(runs, np.array([-1.0, 50.0, 100.0]))
    np.testing.assert_allclose(profile, [1, 0.5, 0])
    assert stats.optimality_gap(runs, 100) == 50
    assert stats.optimality_gap([np.array([150.0, 90.0])], 100) == 5


@pytest.mark.parametrize(
    ("count", "quantile"),  # 97.5 % quantiles of Student's t, as printed in tables
    [
        (2, 12.7062),
        (3, 4.3027),
        (5, 2.7764),
        (10, 2.2622),
        (31, 2.0423),
        (41, 2.0211),
        (121, 1.9799),
    ],
)
def test_t_interval_uses_students_quantiles(count, quantile):
    values = 500 + np.arange(count) % 2  # far from the ends of the scale
    half = quantile * values.std(ddof=1) / np.sqrt(count)
    low, high = stats.t_interval(values)
    assert high - low == pytest.approx(2 * half, rel=1e-4)
    assert (low + high) / 2 == pytest.approx(values.mean())


def test_t_interval_stays_on_the_scale():
    assert stats.t_interval(np.array([990.0, 1000.0, 950.0]))[1] == 1000
    assert stats.t_interval(np.array([0.0, 1.0, 30.0]))[0] == 0
