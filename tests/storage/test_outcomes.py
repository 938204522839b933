"""Outcomes of retrieval are kept bit by bit, and read as they were."""

import numpy as np
import pytest

from gaptune.storage.outcomes import FILE_NAME, RetrievalOutcomes, load_outcomes


@pytest.fixture
def outcomes():
    rng = np.random.default_rng(0)
    captions = rng.integers(1, 6, 101)
    right = {"retrieval/i2t_r1": rng.random(101) < 0.3, "retrieval/t2i_r1": rng.random(captions.sum()) < 0.2}
    return RetrievalOutcomes(captions, right, {"geometry/gap": 0.012, "uniformity/w2": -0.8})


def test_what_is_written_is_read(tmp_path, outcomes):
    outcomes.save(tmp_path / "0000")
    found = load_outcomes(tmp_path / "0000")
    assert (found.captions == outcomes.captions).all()
    assert all((found.right[name] == right).all() for name, right in outcomes.right.items())
    assert found.centered == outcomes.centered
    assert (tmp_path / "0000" / FILE_NAME).stat().st_size < 3000


def test_a_trial_without_a_file_has_none(tmp_path):
    assert load_outcomes(tmp_path) is None


@pytest.mark.parametrize("damage", [b"", b"no zip", slice(0, 400), "0000", "retrieval/i2t_r1"])
def test_damaged_file_counts_as_none(tmp_path, outcomes, damage):
    outcomes.save(tmp_path)
    file = tmp_path / FILE_NAME
    content = file.read_bytes()
    if isinstance(damage, bytes):
        file.write_bytes(damage)
    elif isinstance(damage, slice):
        file.write_bytes(content[damage])
    elif damage == "0000":
        file.write_bytes(content[:300] + bytes(16) + content[316:])
    else:
        with np.load(file) as arrays:
            np.savez(file, **{name: array for name, array in arrays.items() if name != "captions"})
    assert load_outcomes(tmp_path) is None


def test_captions_are_counted_by_their_image(outcomes):
    right, queries = outcomes.by_image("retrieval/t2i_r1")
    ends = np.cumsum(outcomes.captions)
    parts = np.split(outcomes.right["retrieval/t2i_r1"], ends[:-1])
    assert right.tolist() == [part.sum() for part in parts]
    assert queries.tolist() == outcomes.captions.tolist()
    right, queries = outcomes.by_image("retrieval/i2t_r1")
    assert right.tolist() == outcomes.right["retrieval/i2t_r1"].tolist()
    assert set(queries) == {1.0}
