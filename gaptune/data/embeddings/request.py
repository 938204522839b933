"""What a user asks for: files by split, and what is done with their features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gaptune.data.embeddings.places import Place
from gaptune.data.embeddings.treatment import Treatment
from gaptune.data.sources.splits import TRAIN, VAL
from gaptune.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Request:
    """Files of features by split, and how they are paired and treated.

    Attributes:
        image: Features of images, in one or several parts.
        text: Features of texts, in one or several parts; a split with labels needs none.
        pairs: Tables of rows of images and texts; see ``read_pairs``.
        image_keys: Keys of the images.
        text_keys: Keys of the texts: texts belong to the image with the same key.
        labels: Labels of the images: indices into the classes, or names.
        classes: Names of the classes in the order of the labels.
        prompts: Features of class prompts, with all rows of the first class first.
        val_fraction: Fraction of ``train`` that becomes ``val`` where there is none; None for the default.
        normalize: Whether each row is divided by its length.
        center: Whether the mean of the training features of its modality is subtracted from each row.
        treated_as: In place of these two, what was done with the features of another store.
    """

    image: Mapping[str, Sequence[Place]]
    text: Mapping[str, Sequence[Place]] = field(default_factory=dict)
    pairs: Mapping[str, Place] = field(default_factory=dict)
    image_keys: Mapping[str, Place] = field(default_factory=dict)
    text_keys: Mapping[str, Place] = field(default_factory=dict)
    labels: Mapping[str, Place] = field(default_factory=dict)
    classes: Place | None = None
    prompts: Place | None = None
    val_fraction: float | None = None
    normalize: bool = False
    center: bool = False
    treated_as: Treatment | None = None

    def check(self) -> None:
        """Checks that the options fit each other, before any file is read.

        Raises:
            UserError: They do not.
        """
        for problem in self._problems():
            raise UserError(problem)

    def _problems(self) -> Iterator[str]:
        if not self.image:
            yield "there are no features of images: give --image SPLIT=FILE"
        for option in ("text", "pairs", "image_keys", "text_keys", "labels"):
            for split in getattr(self, option):
                if split not in self.image:
                    hint = did_you_mean(split, self.image)
                    yield f"--{option.replace('_', '-')} {split}: there is no --image {split}{hint}"
        for split in self.image:
            if split not in self.text and split not in self.labels:
                yield f"{split} has features of images alone: give --text {split}=FILE or --labels {split}=FILE"
            keys = split in self.image_keys, split in self.text_keys
            if split not in self.text and (split in self.pairs or any(keys)):
                yield f"{split} has pairs or keys, but no --text {split}=FILE"
            if any(keys) and not all(keys):
                yield f"{split} has keys on one side: give both --image-keys and --text-keys, or neither"
            if all(keys) and split in self.pairs:
                yield f"{split} has --pairs and keys: give one of them"
        if not self.text and self.prompts is None:
            yield "there are no features of texts: give --text SPLIT=FILE, or --prompts FILE for labeled images"
        if self.prompts is not None and self.classes is None and not self.labels:
            yield "--prompts needs --labels or --classes: how many classes there are"
        if self.treated_as and (self.normalize or self.center):
            yield "--treated-as is in place of --normalize and --center: leave them out"
        if self.center and TRAIN not in self.text:
            yield "--center needs training features: give --image train=FILE and --text train=FILE"
        if self.val_fraction and TRAIN not in self.image:
            yield "--val-fraction needs --image train=FILE"
        if self.val_fraction and VAL in self.image:
            yield "there is a split val already, so that no --val-fraction can be taken from train"
