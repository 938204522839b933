"""Relative paths of a sweep on several machines are refused, with what to write instead."""

import pytest

from gaptune.config import TrialConfig
from gaptune.engine.shared_paths import NotSharedError, check_full_paths, check_results, create_results
from gaptune.errors import UserError

RETRIEVAL = {"name": "far", "tasks": ["retrieval"]}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pt").touch()
    (tmp_path / "a:b").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "key", "full"),
    [
        ({"data": {"store": "coco-store"}}, "data.store", "HERE/coco-store"),
        ({"data": {"store": "../coco-store"}}, "data.store", "HERE/../coco-store"),
        ({"data": {"store": "a:b"}}, "data.store", "HERE/a:b"),
        ({"data": {"store": "imagefolder:pets"}}, "data.store", "imagefolder:HERE/pets"),
        ({"data": {"store": "csv:pets.csv?caption=a:b"}}, "data.store", "csv:HERE/pets.csv?caption=a:b"),
        ({"data": {"store": "/coco", "mix": {"/coco": 1.0, "pets": 1.0}}}, "data.mix", "HERE/pets"),
        ({"evaluate": [{**RETRIEVAL, "data": "test"}]}, "evaluate far: data", "HERE/test"),
        ({"model": {"name": "RN50", "pretrained": "weights.pt"}}, "model.pretrained", "HERE/weights.pt"),
    ],
)
def test_relative_path_is_refused_with_the_full_one(given, key, full, here):
    with pytest.raises(UserError) as refused:
        check_full_paths(TrialConfig.model_validate(given), "the cluster at 10.0.0.5:6379")
    message = str(refused.value)
    assert message.startswith(f"{key}: ")
    assert f"write {full.replace('HERE', str(here))} if they all see it there" in message


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"data": {"store": "scenes"}},
        {"data": {"store": "/mnt/coco"}},
        {"data": {"store": "s3://bucket/coco"}},
        {"data": {"store": "csv:/mnt/pets.csv?caption=a:b"}},
        {"model": {"name": "RN50", "pretrained": "openai"}},
        {"evaluate": [{**RETRIEVAL, "data": "imagefolder:/mnt/pets"}]},
    ],
)
def test_other_places_are_accepted(given):
    check_full_paths(TrialConfig.model_validate(given), "the cluster at 10.0.0.5:6379")


@pytest.mark.parametrize("of", ["HERE/s/trials", "file://HERE/far%20away/s/trials"])
def test_a_machine_sees_the_results_by_their_directory(of, tmp_path):
    place = of.replace("HERE", str(tmp_path))
    with pytest.raises(
        NotSharedError, match=rf"^{tmp_path}/.*/trials does not exist there; use .* that all machines see$"
    ):
        check_results(f"{place}/0003")
    create_results(place)
    check_results(f"{place}/0003")


def test_object_storage_has_no_directory_that_a_machine_must_see():
    create_results("s3://bucket/s/trials")
    check_results("s3://bucket/s/trials/0003")
