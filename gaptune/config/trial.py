"""Schema of a trial: typed config groups with defaults and bounds.

Its leaves are addressed by their dotted paths, such as ``temperature.tau_end`` (``gaptune.config.params``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gaptune.metrics.table import METRICS, SYSTEM, Task, metrics_of
from gaptune.text.renamed import MODELS

UnitInterval = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Moderate = Annotated[float, Field(ge=1e-6, le=1e6)]
"""A temperature, a scale, or a weight, between 1e-6 and 1e6. The rounding error of a cosine in float32 is 6e-8: with
τ < 1e-6 this error dominates the logits, and with τ > 1e6 all logits are equal."""


def _checked_place(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty: leave it out, or give a path, a URL, or a data set")
    if len(text.encode()) > 4000 or any(len(part.encode()) > 255 for part in text.split("/")):
        raise ValueError(f"too long for a path or URL ({len(text):,} characters)")
    return text


Place = Annotated[str, AfterValidator(_checked_place)]
"""A path, a URL, or a data set such as ``cifar10:PATH``; not longer than file systems allow."""


class Schema(BaseModel):
    """Base class of all config groups: immutable, without unknown fields, finite numbers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


HEADS = "heads"
"""The model for a data store of features: a head for each modality."""

HEAD_DEFAULTS: dict[str, Any] = {"head": "linear", "width": 512, "dropout": 0.2, "bias": True, "normalize": True}
"""The fields of ``ModelConfig`` that only heads have, and their defaults; None for other models."""


class ModelConfig(Schema):
    """The model that is trained: a CLIP, or two heads on stored features.

    Attributes:
        name: A preset of gaptune (``scenes-tiny``, ``photos-small``), any open_clip model name (``RN50``), or ``heads``
            for a data store of features.
        image_size: Side of the model's input in pixels; None for the size of its weights, or of the model.
        vocabulary: ``full`` uses all 49,408 rows of CLIP's tokenizer, ``compact`` the rows that the training captions
            use (a small table trains faster on a CPU), and ``auto`` is ``compact`` for presets of gaptune and ``full``
            for models of open_clip.
        pretrained: Weights to start from: a tag of open_clip (``laion2b_s34b_b79k``), or the path of a checkpoint, of a
            directory with ``open_clip_config.json``, or of a file of tensors. None for random weights.
        freeze: The tower that is not trained, ``image`` (LiT) or ``text``.
        head: Only heads: ``linear`` (the default), ``mlp`` (with a hidden layer and GELU), or ``residual`` (a linear
            layer plus a small MLP).
        width: Only heads: width of the embeddings, by default 512.
        dropout: Only heads: fraction of a feature's numbers that a training step leaves out, by default 0.2.
        bias: Only heads: whether their layers have a bias, by default true.
        normalize: Only heads: whether a feature is scaled to the length √d first, by default true.
    """

    name: str = "scenes-tiny"
    image_size: Annotated[int, Field(ge=16, le=1024)] | None = None
    vocabulary: Literal["auto", "full", "compact"] = "auto"
    pretrained: Place | None = None
    freeze: Literal["image", "text"] | None = None
    head: Literal["linear", "mlp", "residual"] | None = None
    width: Annotated[int, Field(ge=2, le=65_536)] | None = None
    dropout: Annotated[float, Field(ge=0.0, le=0.95)] | None = None
    bias: bool | None = None
    normalize: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _head_defaults(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("name") == HEADS:
            return {**given, **{key: value for key, value in HEAD_DEFAULTS.items() if given.get(key) is None}}
        return given

    @field_validator("name")
    @classmethod
    def _not_renamed(cls, name: str) -> str:
        if name in MODELS:
            raise ValueError(f"unknown model {name!r} (renamed to {MODELS[name]!r})")
        return name

    @field_validator("image_size", "vocabulary", "pretrained", "freeze", *HEAD_DEFAULTS)
    @classmethod
    def _of_this_model(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        name, of_heads = info.data.get("name"), info.field_name in HEAD_DEFAULTS
        if name is not None and of_heads != (name == HEADS) and value != cls.model_fields[info.field_name].default:
            reason = "has no heads" if of_heads else "trains no towers, and starts at random"
            raise ValueError(f"does not apply to the model {name}, which {reason}")
        return value


class DataConfig(Schema):
    """The image-caption pairs for training and evaluation.

    Attributes:
        store: ``scenes`` for the embedded procedural data, or a data store from ``gaptune data build``.
        mix: Several stores by weight. With ``{coco-store: 2, cc3m-store: 1}``, two of three training pairs come from
            the first. Validation and probes use ``store``, by default the first store of the mix.
    """

    store: Place = "scenes"
    mix: Annotated[dict[Place, Moderate], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _first_of_mix(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("mix"), dict) and given["mix"] and "store" not in given:
            return {"store": next(iter(given["mix"])), **given}
        return given


class TemperatureConfig(Schema):
    """The temperature τ = 1/β, learned by gradient descent or moved by a schedule.

    Attributes:
        schedule: ``learned``, ``constant`` (τ stays at ``tau_start``), or the shape of the schedule from ``tau_start``
            to ``tau_end``.
        parameterization: β as a function of the learned scalar ν: ``exp`` β = e^ν, ``exp_scaled``
            β = e^(ν/scale), ``softplus`` β = log(1 + e^ν).
        scale: Scale s of ``exp_scaled``. With AdamW, which ignores the scale of a gradient, this equals ``exp`` with
            the learning rate of ν divided by s.
        tau_init: τ at the first step when learned.
        lr: Highest learning rate of ν; None for ``optimizer.lr``. A short training needs a larger rate to change τ.
        lr_multiplier: Factor of the learning rate of ν (0.1 is the paper's SLRT).
        tau_min: Lower bound on a learned τ (0.01 is CLIP's β ≤ 100); None for no bound.
        tau_max: Upper bound on a learned τ; None for no bound.
        tau_start: τ at the start of a schedule.
        tau_end: τ at the end of a schedule.
        schedule_fraction: Fraction of the training steps in which τ changes; afterwards τ stays at ``tau_end``.
        steps: Number of levels of the ``step`` schedule, the first at ``tau_start``, the last at ``tau_end``.
    """

    schedule: Literal["learned", "constant", "linear", "cosine", "exponential", "step"] = "learned"
    parameterization: Literal["exp", "exp_scaled", "softplus"] = "exp"
    scale: Moderate = 2.0
    tau_init: Moderate = 0.07
    lr: Positive | None = None
    lr_multiplier: Annotated[float, Field(ge=0.0)] = 1.0
    tau_min: Moderate | None = 0.01
    tau_max: Moderate | None = None
    tau_start: Moderate = 0.04
    tau_end: Moderate = 0.04
    schedule_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    steps: Annotated[int, Field(ge=2, le=1_000_000)] = 4

    @model_validator(mode="after")
    def _bounds(self) -> TemperatureConfig:
        low, high = self.tau_min or 0.0, self.tau_max or float("inf")
        if low > high:
            raise ValueError(f"tau_min {low:g} is above tau_max {high:g}")
        if self.schedule == "learned" and not low <= self.tau_init <= high:
            raise ValueError(f"tau_init {self.tau_init:g} is outside [tau_min, tau_max] = [{low:g}, {high:g}]")
        return self


class SwapConfig(Schema):
    """Modality swapping: exchange of feature entries between the modalities during training.

    Attributes:
        kind: ``none``, ``hard`` (entries exchanged with probability 0.5) or ``soft`` (entries mixed).
        probability: Fraction of the training steps within the window in which a swap happens.
        start: Start of the window, as a fraction of training.
        end: End of the window, as a fraction of training.
        renormalize: Whether swapped features are normalized to length 1 again (not in the paper).
    """

    kind: Literal["none", "hard", "soft"] = "none"
    probability: UnitInterval = 0.05
    start: UnitInterval = 0.0
    end: UnitInterval = 1.0
    renormalize: bool = False

    @model_validator(mode="after")
    def _window(self) -> SwapConfig:
        if self.start >= self.end:
            raise ValueError(f"start ({self.start:g}) must be less than end ({self.end:g})")
        return self


class OptimizerConfig(Schema):
    """AdamW with linear warm-up and cosine decay.

    Attributes:
        lr: Highest learning rate.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        eps: Term added to the denominator.
        weight_decay: Weight decay of matrices and kernels; norms, biases, and the temperature have none.
        warmup: Fraction of the steps in which the learning rate rises linearly.
        clip_norm: Largest norm of the gradient, including ν; None for no clipping.
    """

    lr: Positive = 1e-3
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.98
    eps: Annotated[float, Field(ge=1e-37)] = 1e-6  # below 1e-37, eps is 0 in float32: NaN without a gradient
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    warmup: UnitInterval = 0.1
    clip_norm: Positive | None = None


class TrainingConfig(Schema):
    """Length, batches, and precision of the training.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Pairs per step, at least 2.
        micro_batch: Pairs whose activations are in memory at the same time. The loss still contrasts the whole batch:
            features are computed first, then the gradients, one part of the batch after the other (GradCache). Batch
            norm uses the statistics of each part. None for the whole batch at once.
        grad_checkpointing: Whether activations are computed again for the gradient instead of kept, by open_clip's
            ``set_grad_checkpointing``: less memory, more time.
        precision: ``fp32`` (full float32), ``tf32`` (matrix products and convolutions in TF32 on GPUs that have it;
            elsewhere the same as ``fp32``), or ``bf16`` (autocast). Metrics are always computed in full float32.
        deterministic: Whether a GPU uses only deterministic algorithms, so that a resumed training ends with exactly
            the same weights. Slower on a GPU; training on a CPU is always deterministic.
        compile: Whether ``torch.compile`` compiles the towers, which takes half a minute or more in each worker. It
            does not make a training on a CPU faster.
        evaluate_every: Number of epochs between two reports, each with an evaluation and a checkpoint; the last epoch
            always has a report.
    """

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 8
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 128
    micro_batch: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    grad_checkpointing: bool = False
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    deterministic: bool = False
    compile: bool = False
    evaluate_every: Annotated[int, Field(ge=1, le=100_000)] = 1

    @model_validator(mode="after")
    def _within_batch(self) -> TrainingConfig:
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ValueError(f"micro_batch {self.micro_batch} is above batch_size {self.batch_size}")
        return self


class AugmentConfig(Schema):
    """Random resized crop (torchvision's, bicubic) and flip of the training images, on the trial's device.

    Attributes:
        crop_min: Smallest fraction of the image's area that a crop keeps; 1 switches cropping off.
        flip: Whether half of the images are mirrored.
    """

    crop_min: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    flip: bool = False


class EvaluationConfig(Schema):
    """Other data on which each trial is evaluated.

    Attributes:
        name: First part of the names of its metrics: ``cifar10`` gives ``cifar10/zeroshot/top1``.
        data: A data store, or a data set such as ``cifar10:PATH``.
        tasks: Any of ``zeroshot``, ``probe``, and ``knn`` (which need labels), ``retrieval``, and ``mmvp`` (which need
            captions).
        when: ``epoch`` (with each report), ``end`` (at the end of a training), or ``front`` (when the sweep has ended,
            only for candidates on the front).
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    data: Place
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    when: Literal["epoch", "end", "front"] = "end"

    @field_validator("tasks", mode="before")
    @classmethod
    def _frozen(cls, entries: Any) -> Any:
        return as_tuple(entries)

    @field_validator("name")
    @classmethod
    def _own_group(cls, name: str) -> str:
        if name in {metric.partition("/")[0] for metric in (*METRICS, *SYSTEM)}:
            raise ValueError(f"{name!r} is the first part of built-in metric names: choose another name")
        return name

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics of this evaluation."""
        return tuple(f"{self.name}/{metric}" for metric in metrics_of(self.tasks))


def as_tuple(entries: Any) -> Any:
    """Converts a list to a tuple, because YAML has no tuples. Other values are returned unchanged."""
    return tuple(entries) if isinstance(entries, list) else entries


def _distinct_names(evaluations: tuple[EvaluationConfig, ...]) -> tuple[EvaluationConfig, ...]:
    names = [evaluation.name for evaluation in evaluations]
    if len(set(names)) < len(names):
        raise ValueError("duplicate name")
    return evaluations


Evaluations = Annotated[tuple[EvaluationConfig, ...], BeforeValidator(as_tuple), AfterValidator(_distinct_names)]


class TrialConfig(Schema):
    """The complete configuration of one training.

    Attributes:
        model: The model.
        data: Image-caption pairs.
        temperature: Parameters of the temperature.
        swap: Parameters of the modality swap.
        optimizer: Parameters of AdamW.
        training: Length, batch size, and precision.
        augment: Augmentation.
        seed: Random seed of initial weights, order of batches, captions, augmentation, dropout, and swaps.
        device: ``cpu``, ``cuda``, or ``auto``: in a sweep, as ``resources.gpu`` says; in Python, CUDA if available.
        evaluate: Other data on which the trial is evaluated.
    """

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    temperature: TemperatureConfig = TemperatureConfig()
    swap: SwapConfig = SwapConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    augment: AugmentConfig = AugmentConfig()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    evaluate: Evaluations = ()
