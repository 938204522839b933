"""Conformance tests of each sampler and each stopping method."""

import os
from typing import get_args

import pytest
from search_conformance import RankingConformance, SamplerConformance, StoppingConformance

from gaptune.config import EarlyStoppingConfig, SearchConfig
from gaptune.search.early_stopping import STOPPING_METHODS
from gaptune.search.samplers import SAMPLERS

FULL = os.environ.get("GAPTUNE_SOAK") == "full"


class TestTpe(SamplerConformance):
    sampler = "tpe"


class TestNsga2(SamplerConformance):
    sampler = "nsga2"
    count = 30


@pytest.mark.soak  # half a minute of fitting
class TestGp(SamplerConformance):
    sampler = "gp"
    count = 15
    if not FULL:  # fitting takes long
        cuts, swept = (2, 11), 5


class TestRandom(SamplerConformance):
    sampler = "random"
    learns = False


class TestSuccessiveHalving(RankingConformance):
    method = "asha"


class TestRandomStopping(StoppingConformance):
    method = "random"


def test_config_and_registry_name_the_same_samplers():
    assert set(get_args(SearchConfig.model_fields["sampler"].annotation)) == set(SAMPLERS)


def test_config_and_registry_name_the_same_stopping_methods():
    assert set(get_args(EarlyStoppingConfig.model_fields["method"].annotation)) == {"none", *STOPPING_METHODS}


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"grid"}))  # a grid has separate tests
def test_every_sampler_has_conformance_tests(sampler):
    assert sampler in {suite.sampler for suite in _suites(SamplerConformance)}


@pytest.mark.parametrize("method", sorted(STOPPING_METHODS))
def test_every_stopping_method_has_conformance_tests(method):
    assert method in {suite.method for suite in _suites(StoppingConformance)}


def _suites(base):
    return [base, *(suite for inner in base.__subclasses__() for suite in _suites(inner))]
