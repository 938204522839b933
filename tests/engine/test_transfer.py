"""What a sweep has found, taken further: trained at another scale, exported for open_clip."""

import open_clip
import pytest
import warm
from support import write_yaml

from gaptune.ledger import State, load

pytestmark = pytest.mark.timeout(600)


def test_trial_is_transferred_to_another_scale_and_exported(tmp_path, small_store, ray_address):
    space, sweep = write_yaml(tmp_path, small_store, trials=1, epochs=1)
    other = tmp_path / "larger.yaml"
    other.write_text(sweep.read_text().replace("epochs: 1", "epochs: 2").replace("batch_size: 64", "batch_size: 32"))

    def run(*words, code=0):
        done = warm.run(*words, "--results", tmp_path / "results", code=code)
        return done.stdout + done.stderr

    joined = "--address", ray_address
    run("sweep", space, "--config", sweep, "--name", "s", *joined)
    found = load(tmp_path / "results" / "s").trials[0]
    run("transfer", "s", "0", "--config", other, *joined)
    promoted = load(tmp_path / "results" / "s-0-on-larger")
    (trial,) = promoted.trials.values()
    assert trial.state is State.COMPLETE
    assert trial.params == {parameter: value for parameter, value in found.params.items() if parameter != "seed"}
    assert (trial.config["training.epochs"], trial.config["training.batch_size"]) == (2, 32)
    assert "transfer s 0" in promoted.header.command

    out = tmp_path / "exported"
    run("model", "export", "s", "0", "--out", str(out))
    plain, _, _ = open_clip.create_model_and_transforms(f"local-dir:{out}")
    assert float(plain.logit_scale.detach().exp()) == pytest.approx(1 / found.last["temperature/tau"], rel=1e-5)
    card = (out / "README.md").read_text()
    assert f"| geometry/gap | {found.last['geometry/gap']:.4f} |" in card
    assert "exists; remove it" in run("model", "export", "s", "0", "--out", str(out), code=2)
    assert "has no trial 7" in run("model", "export", "s", "7", "--out", str(tmp_path / "x"), code=2)
    assert "has no trial 7" in run("transfer", "s", "7", "--config", str(other), code=2)
