"""A sweep as a tutorial has it: the program that ``tutorial_stack.py`` measures beside gaptune.

    python benchmarks/tutorial.py --photographs flickr8k --out results [--candidates 8] [--epochs 2]

Ray Tune with Optuna's search, MLflow's callback, a ``Dataset`` that reads JPEGs, torchvision's transforms, a
``DataLoader`` with workers, and open_clip's model, loss, and tokenizer. The model is gaptune's ``photos-small`` with
all rows of CLIP's vocabulary, because open_clip's tokenizer uses them; texts have 32 tokens, as the longest caption.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
from pathlib import Path

import ray
import torch
import torch.nn.functional as F
from open_clip import CLIP, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD, ClipLoss, SimpleTokenizer
from PIL import Image
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.search.optuna import OptunaSearch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T

BATCH, SIDE, CONTEXT = 128, 64, 32
MODEL = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": SIDE, "layers": (1, 1, 1, 1), "width": 16, "head_width": 32},
    "text_cfg": {"width": 96, "heads": 3, "layers": 1, "context_length": CONTEXT},
}
BICUBIC = T.InterpolationMode.BICUBIC
TO_TENSOR = [T.ToTensor(), T.Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)]
FOR_TRAINING = T.Compose(
    [T.RandomResizedCrop(SIDE, scale=(0.6, 1.0), interpolation=BICUBIC), T.RandomHorizontalFlip(), *TO_TENSOR]
)
FOR_EVALUATION = T.Compose([T.Resize(SIDE, interpolation=BICUBIC), T.CenterCrop(SIDE), *TO_TENSOR])


class Photographs(Dataset):
    """The photographs of a split, each with all its captions, or with one at random."""

    def __init__(self, folder: Path, split: str, transform: T.Compose) -> None:
        content = json.loads((folder / "annotations" / f"captions_{split}.json").read_text(encoding="utf-8"))
        captions: dict[int, list[str]] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            captions[annotation["image_id"]].append(annotation["caption"])
        self.items = [(folder / split / image["file_name"], captions[image["id"]]) for image in content["images"]]
        self.transform = transform
        self.tokenize = SimpleTokenizer(context_length=CONTEXT)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        path, captions = self.items[index]
        image = self.transform(Image.open(path).convert("RGB"))
        return image, self.tokenize(random.choice(captions))[0]


@torch.no_grad()
def evaluate(model: CLIP, loader: DataLoader) -> dict[str, float]:
    """Recall in both directions over all captions, and the distance of the modalities' means."""
    model.eval()
    images = torch.cat([F.normalize(model.encode_image(image), dim=1) for image, _ in loader])
    captions = [captions for _, captions in loader.dataset.items]
    owner = torch.tensor([row for row, several in enumerate(captions) for _ in several])
    tokens = loader.dataset.tokenize([caption for several in captions for caption in several])
    texts = torch.cat([F.normalize(model.encode_text(part), dim=1) for part in tokens.split(512)])
    similarity = images @ texts.T
    metrics = {"gap": float((images.mean(0) - texts.mean(0)).norm())}
    for k in (1, 5, 10):
        to_text = (owner[similarity.topk(k, dim=1).indices] == torch.arange(len(images))[:, None]).any(1)
        to_image = (similarity.T.topk(k, dim=1).indices == owner[:, None]).any(1)
        i2t, t2i = float(to_text.float().mean()), float(to_image.float().mean())
        metrics |= {f"i2t_r{k}": i2t, f"t2i_r{k}": t2i, f"mean_r{k}": (i2t + t2i) / 2}
    model.train()
    return metrics


def train(config: dict[str, float], photographs: Path, epochs: int) -> None:
    """One trial."""
    torch.manual_seed(0)
    workers = {"num_workers": 1, "persistent_workers": True}
    loader = DataLoader(Photographs(photographs, "train", FOR_TRAINING), BATCH, shuffle=True, drop_last=True, **workers)
    val = DataLoader(Photographs(photographs, "val", FOR_EVALUATION), 512, **workers)
    model = CLIP(**MODEL, init_logit_scale=math.log(1 / config["tau"]))
    loss_of = ClipLoss()
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config["lr"], betas=(0.9, 0.98), eps=1e-6)
    steps = epochs * len(loader)
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / (steps - warm))))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for epoch in range(epochs):
        losses = []
        for images, texts in loader:
            loss = loss_of(*model(images, texts))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            losses.append(loss.item())
        metrics = {"epoch": epoch + 1, "loss": sum(losses) / len(losses), **evaluate(model, val)}
        with tempfile.TemporaryDirectory() as folder:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{folder}/checkpoint.pt")
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, help="unpacked folder of Flickr8k")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    ray.init(num_cpus=2, include_dashboard=False)
    trainable = tune.with_parameters(train, photographs=arguments.photographs.resolve(), epochs=arguments.epochs)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"lr": tune.loguniform(5e-4, 5e-3), "tau": tune.loguniform(0.02, 0.2)},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric=["mean_r10", "gap"], mode=["max", "min"], seed=0),
            num_samples=arguments.candidates,
            max_concurrent_trials=2,
        ),
        run_config=tune.RunConfig(
            name="tutorial",
            storage_path=str(out),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            callbacks=[MLflowLoggerCallback(f"sqlite:///{out}/mlflow.db", experiment_name="tutorial")],
        ),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit(f"{len(results.errors)} trials failed: {results.errors[0]}")
    print("recall@10", [round(result.metrics["mean_r10"], 3) for result in results])


if __name__ == "__main__":
    main()
