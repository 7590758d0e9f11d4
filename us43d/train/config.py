"""Configuration of a training run, read from a preset, TOML or JSON, and saved in every checkpoint."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from us43d import limits
from us43d.errors import ConfigError, UnknownName, listed
from us43d.model.config import PRESETS as MODELS
from us43d.model.config import ModelConfig
from us43d.spelling import nearest, normalised

__all__ = ["PRESETS", "InstanceHead", "Task", "TrainConfig", "faults", "finetuning", "preset", "read"]

#: What can be frozen; "second_look.boxes" is the second look's network for boxes alone, "second_look.others" the rest.
Module: TypeAlias = Literal[
    "image_encoder", "prompt_encoder", "mask_decoder", "second_look", "second_look.others", "second_look.boxes"
]
#: What a network is trained for.
Network: TypeAlias = Literal["encoder", "unet", "dynunet"]
Task: TypeAlias = Literal["promptable", "classify", "classify-prompt", "semantic", "instances", "box-unet"]


class InstanceHead(BaseModel):
    """Define the shape of Mask2Former's head; the defaults are the published ones (Cheng et al. 2022).

    Attributes:
        width: Channels of the pixel decoder and of the queries, a multiple of 32.
        queries: Largest number of instances per image.
        pixel_layers: Layers of the pixel decoder's deformable attention.
        query_layers: Layers of the transformer decoder.
        heads: Attention heads.
        feedforward: Hidden units of the transformer decoder's layers; the pixel decoder's have half as many.
        points: Points of a mask at which its loss is computed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(default=256, gt=0, le=4096, multiple_of=32)
    queries: int = Field(default=100, gt=0, le=1000)
    pixel_layers: int = Field(default=6, gt=0, le=64)
    query_layers: int = Field(default=9, gt=0, le=64)
    heads: int = Field(default=8, gt=0, le=64)
    feedforward: int = Field(default=2048, gt=1, le=65536, multiple_of=2)
    points: int = Field(default=12_544, gt=3, le=1_000_000)

    @model_validator(mode="after")
    def _divisible(self) -> "InstanceHead":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class TrainConfig(BaseModel):
    """Define a training run. Equal configuration, corpus and initial weights give the same run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "custom"
    model: ModelConfig = MODELS["nano"]
    seed: int = Field(default=0, ge=0)

    # Task. target: source of the classes: "diagnosis", "structure" (classify-prompt) or a tag of the manifests.
    # class_weights: weight classes by their inverse frequency. frozen: do not train the image encoder. encoder_rate:
    # factor of the image encoder's learning rate, for tasks other than promptable. network: the image encoder (with
    # upsampling layers for semantic), or MONAI's U-Net for semantic and its encoder for classify. head: for instances.
    # pool: input of classify: "mean" is the published mean of the embedding over the image; "levels" adds its maximum,
    # and both of the finer features of a conv encoder. context: for classify-prompt, show the network only the box with
    # a margin of this fraction of its sides; 0 shows the whole image.
    task: Task = "promptable"
    target: str = "diagnosis"
    class_weights: bool = False
    pool: Literal["mean", "levels"] = "mean"
    context: float = Field(default=0.0, ge=0, le=10)
    frozen: bool = False
    encoder_rate: float = Field(default=1.0, gt=0)
    network: Network = "encoder"
    head: InstanceHead = InstanceHead()

    # Data. splits: splits to train on. sources: names; all sources of the corpus if empty. min_area, min_share:
    # smallest area of an instance, in pixels and as a fraction of its image; smaller ones are excluded. instances:
    # largest number of instances drawn from an image at once. balance: unit that is drawn evenly; "image" draws every
    # image equally often. size_repeats: within a unit, an image whose largest instance has a rare size (in octaves of
    # the image) is drawn up to this many times as often. by_aspect: a micro-batch has either wide or other images.
    # commercial: refuse data whose licence forbids commercial use or does not settle it. allow_external: train on
    # sources of the external tier, which are reserved for comparing models.
    splits: tuple[str, ...] = ("train",)
    sources: tuple[str, ...] = ()
    min_area: int = Field(default=16, ge=1)
    min_share: float = Field(default=1e-4, ge=0, lt=1)
    instances: int = Field(default=20, ge=1)
    balance: Literal["image", "source", "organ", "structure"] = "image"
    size_repeats: int = Field(default=1, ge=1, le=100)
    by_aspect: bool = False
    commercial: bool = False
    allow_external: bool = False

    # Augmentation. flip: probability of a horizontal flip. turn: largest rotation, degrees. zoom: the image is scaled
    # by up to e^±zoom and shifted, one instance kept in view. scale: range of a further factor, drawn evenly, of the
    # tasks without prompts; 0.1 to 2 is large-scale jittering as published. contrast: standard deviation of a change of
    # gain and offset. mosaic: probability that an image is combined with three others, so that only the prompt
    # identifies the object; it rises from 0 to this value in the first half of the run. quality: strength of a change
    # of gamma, and probability of blur and of speckle noise.
    flip: float = Field(default=0.5, ge=0, le=1)
    turn: float = Field(default=0.0, ge=0, le=180)
    zoom: float = Field(default=0.0, ge=0, le=2)
    scale: tuple[float, float] = (1.0, 1.0)
    contrast: float = Field(default=0.0, ge=0, le=1)
    mosaic: float = Field(default=0.0, ge=0, le=1)
    quality: float = Field(default=0.0, ge=0, le=1)

    # Prompts. repeats: prompts per instance. box_share: fraction of box prompts; the others are one point in the mask.
    # box_jitter: largest shift of a corner, as a fraction of the box's side. extra_points: probability of further
    # points, inside or outside. structure_prompts: prompts of an image that name a structure, present or absent; images
    # without annotations are drawn too. clicks: largest number of corrective clicks in the second pass; half of the
    # prompts get none. mistakes: fraction of the prompts with clicks, but no box, that correct a made-up mask
    # (us43d.train.mistakes) instead of the model's own. look_jitter: deviation of the sides of the second look's window
    # where no box gives them.
    repeats: int = Field(default=1, ge=1)
    box_share: float = Field(default=0.5, ge=0, le=1)
    box_jitter: float = Field(default=0.05, ge=0, lt=0.5)
    extra_points: float = Field(default=0.0, ge=0, le=1)
    structure_prompts: int = Field(default=0, ge=0)
    clicks: int = Field(default=0, ge=0)
    mistakes: float = Field(default=0.0, ge=0, le=1)
    look_jitter: float = Field(default=0.08, ge=0, lt=1)

    # Loss. soft_targets: coverage of a low-resolution pixel instead of 0 or 1. all_ious: train the IoU head on all
    # three masks instead of only the best one. through_logits: gradients flow from the second pass into the first.
    # presence: weight of the presence of a named structure. look: weight of the second look's loss.
    focal: float = Field(default=20.0, ge=0)
    bce: float = Field(default=0.0, ge=0)
    dice: float = Field(default=1.0, ge=0)
    iou: float = Field(default=1.0, ge=0)
    presence: float = Field(default=0.5, ge=0)
    look: float = Field(default=1.0, ge=0)
    soft_targets: bool = False
    all_ious: bool = False
    through_logits: bool = True

    # Optimization. batch: images per step over all processes. micro_batch: images per forward pass of a process.
    # schedule: "steps" multiplies the rate by decay at the milestones, "cosine" decreases it to decay. ema: decay of
    # the exponential moving average of the weights, which is validated and saved; 0 for none. lora: rank of low-rank
    # updates of the image encoder, whose own weights are then frozen; 0 trains all weights. freeze: modules of the
    # model to freeze.
    batch: int = Field(default=32, ge=1)
    micro_batch: int = Field(default=8, ge=1)
    steps: int = Field(default=30_000, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip: float = Field(default=0.1, gt=0)
    warm_up: int = Field(default=500, ge=0)
    schedule: Literal["steps", "cosine"] = "steps"
    milestones: tuple[int, ...] = (20_000, 28_888)
    decay: float = Field(default=0.1, ge=0, le=1)
    ema: float = Field(default=0.0, ge=0, lt=1)
    lora: int = Field(default=0, ge=0)
    freeze: tuple[Module, ...] = ()

    # Computation. precision: bf16 is float32 on a CPU that emulates it; fp16, with a scaled loss, is for GPUs without
    # bf16. workers: number of loader processes; with 0, data are loaded in the training process.
    precision: Literal["bf16", "fp16", "float32"] = "bf16"
    compile: bool = False
    checkpointing: bool = False
    workers: int = Field(default=4, ge=0)

    # Validation, checkpoints and log. validation_images: largest number of images of the validation split, always the
    # same ones. patience: number of consecutive validations without a better score after which the run ends; 0 for no
    # early stopping.
    validate_every: int = Field(default=1000, ge=1)
    patience: int = Field(default=0, ge=0)
    validation_images: int = Field(default=512, ge=0)
    save_every: int = Field(default=1000, ge=1)
    keep: int = Field(default=3, ge=1)
    log_every: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if self.warm_up >= self.steps:
            raise ValueError(f"warm_up {self.warm_up} must be less than steps {self.steps}")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {self.milestones} are not in ascending order")
        if unknown := set(self.splits) - {"train", "val", "test"}:
            raise ValueError(f"unknown splits {sorted(unknown)}: use train, val or test")
        if self.batch % self.micro_batch:
            raise ValueError(f"batch {self.batch} is not a multiple of micro_batch {self.micro_batch}")
        if not 0.01 <= self.scale[0] <= self.scale[1] <= 100:
            raise ValueError(f"scale {self.scale} is not a range within 0.01 to 100")
        if self.lora and self.model.encoder != "vit":
            raise ValueError("lora needs a model with a vit encoder")
        if self.network != "encoder" and (self.lora or (self.frozen and self.task == "semantic")):
            raise ValueError(
                f"the network {self.network} cannot be combined with lora, nor with frozen in the task semantic"
            )
        if self.network == "unet" and self.task not in ("classify", "semantic"):
            raise ValueError(f"the network unet belongs to the tasks classify and semantic, not to {self.task}")
        if self.network == "dynunet" and self.task != "semantic":
            raise ValueError(f"the network dynunet belongs to the task semantic, not to {self.task}")
        if self.turn and self.task != "promptable":
            raise ValueError(f"turn belongs to the task promptable; images of {self.task} are not rotated")
        if self.context and self.task != "classify-prompt":
            raise ValueError(f"context belongs to the task classify-prompt, not to {self.task}")
        if self.structure_prompts and not self.model.structures:
            raise ValueError("structure_prompts need a model with structures")
        if self.mosaic and (self.model.look or self.structure_prompts):
            raise ValueError("mosaic cannot be combined with a second look or structure_prompts")
        if self.clicks and not self.model.structures:
            raise ValueError("clicks need a model with structures")
        if self.mistakes and not (self.clicks and self.model.look):
            raise ValueError("mistakes need clicks and a model with a second look")
        if self.by_aspect and self.balance != "image":
            raise ValueError("by_aspect needs the balance image")
        return self

    @property
    def boxes_alone(self) -> bool:
        """Whether the second look's network for boxes alone is trained, and nothing else."""
        rest = {"image_encoder", "prompt_encoder", "mask_decoder", "second_look.others"}
        others = self.extra_points or self.clicks or self.structure_prompts
        return rest <= set(self.freeze) and "second_look" not in self.freeze and self.box_share == 1 and not others

    def shortened(self, steps: int) -> "TrainConfig":
        """Scale the run to another number of steps, with warm-up and milestones in proportion."""
        share = steps / self.steps
        milestones = tuple(sorted({round(at * share) for at in self.milestones} - {0}))
        changes = {"steps": steps, "warm_up": int(self.warm_up * share), "milestones": milestones}
        return TrainConfig.model_validate(self.model_dump() | changes)


#: ultrasam-vitb is the published recipe (docs/training.md), ultrasam-vitb-clicks adds points outside, corrective clicks
#: and names of structures; finetune is a starting point for your own data, to be tuned
#: there; small is the model that is shipped; nano has its components at a size that trains in minutes; tiny is the
#: published network in miniature.
PRESETS: dict[str, TrainConfig] = {
    "ultrasam-vitb": TrainConfig(name="ultrasam-vitb", model=MODELS["ultrasam"], by_aspect=True),
    "finetune": TrainConfig(
        name="finetune",
        model=MODELS["ultrasam"],
        zoom=0.3,
        contrast=0.1,
        batch=8,
        micro_batch=2,
        steps=1000,
        learning_rate=2e-5,
        warm_up=50,
        schedule="cosine",
        milestones=(),
        decay=0.02,
        ema=0.99,
        validate_every=100,
        save_every=200,
        log_every=10,
    ),
    "small": TrainConfig(
        name="small",
        model=MODELS["small"],
        balance="source",
        zoom=0.4,
        contrast=0.12,
        quality=0.3,
        instances=2,
        repeats=2,
        box_share=0.55,
        box_jitter=0.03,
        extra_points=0.25,
        structure_prompts=1,
        clicks=4,
        focal=0.0,
        bce=1.0,
        soft_targets=True,
        batch=6,
        micro_batch=6,
        steps=5000,
        learning_rate=1.5e-3,
        weight_decay=1e-3,
        clip=1.0,
        warm_up=200,
        schedule="cosine",
        milestones=(),
        decay=0.01,
        ema=0.998,
        workers=0,
        validate_every=500,
        validation_images=200,
        save_every=250,
        log_every=25,
    ),
}
PRESETS["ultrasam-vitb-clicks"] = PRESETS["ultrasam-vitb"].model_copy(
    update={"name": "ultrasam-vitb-clicks", "model": MODELS["ultrasam-clicks"], "extra_points": 0.25,
            "structure_prompts": 1, "clicks": 4}
)  # fmt: skip
PRESETS["tiny"] = TrainConfig(
    name="tiny", model=MODELS["tiny"], balance="structure", zoom=0.7, contrast=0.1, mosaic=0.5, instances=4, repeats=4,
    box_share=0.7, focal=1.0, soft_targets=True, all_ious=True, through_logits=False, batch=4, micro_batch=4,
    steps=1200, learning_rate=2e-3, clip=1.0, warm_up=60, schedule="cosine", milestones=(), decay=0.02, ema=0.99,
    precision="float32", workers=0, validate_every=200, validation_images=64, save_every=200, log_every=10,
)  # fmt: skip
#: Second stage of the recipe of the shipped model: tighter boxes; only the second look is trained.
PRESETS["small-look"] = PRESETS["small"].model_copy(
    update={
        "name": "small-look", "freeze": ("image_encoder", "prompt_encoder", "mask_decoder"), "balance": "image",
        "structure_prompts": 0, "box_share": 0.7, "box_jitter": 0.01, "steps": 1500, "learning_rate": 8e-4,
        "warm_up": 50, "validate_every": 500,
    }
)  # fmt: skip
PRESETS["finetune-small"] = PRESETS["small"].model_copy(
    update={
        "name": "finetune-small", "balance": "image", "structure_prompts": 0, "batch": 4, "micro_batch": 4,
        "steps": 300, "learning_rate": 3e-4, "warm_up": 20, "ema": 0.98, "validate_every": 50, "save_every": 100,
        "log_every": 10,
    }
)  # fmt: skip
PRESETS["nano"] = PRESETS["small"].model_copy(
    update={"name": "nano", "model": MODELS["nano"], "steps": 1200, "warm_up": 60, "validate_every": 200,
            "validation_images": 64, "save_every": 200, "log_every": 10, "ema": 0.99, "learning_rate": 2e-3}
)  # fmt: skip


#: UltraSam's classification protocol.
PRESETS["classify"] = TrainConfig(
    name="classify", task="classify", model=MODELS["ultrasam"], batch=8, micro_batch=8, steps=2000, warm_up=0,
    milestones=(1600,), clip=1.0, validate_every=200, save_every=500,
)  # fmt: skip
PRESETS["semantic"] = PRESETS["classify"].model_copy(
    update={"name": "semantic", "task": "semantic", "zoom": 0.3, "contrast": 0.1, "encoder_rate": 0.1}
)
#: Mask2Former's settings for COCO with UltraSam's batch and steps.
PRESETS["instances"] = PRESETS["classify"].model_copy(
    update={
        "name": "instances", "task": "instances", "encoder_rate": 0.1, "scale": (0.1, 2.0), "batch": 2,
        "micro_batch": 2, "steps": 30_000, "milestones": (27_000, 28_500), "weight_decay": 0.05, "clip": 0.01,
        "validate_every": 1000, "save_every": 1000,
    }
)  # fmt: skip
#: The baseline for box prompts, at the settings of docs/benchmarks.md.
PRESETS["box-unet"] = TrainConfig(
    name="box-unet", task="box-unet", box_jitter=0.04, contrast=0.12, batch=8, micro_batch=8, steps=2000,
    learning_rate=2e-3, clip=1.0, warm_up=50, schedule="cosine", milestones=(), decay=0.02, precision="float32",
    workers=0, validate_every=500, save_every=250,
)  # fmt: skip
PRESETS["classify-prompt"] = PRESETS["classify"].model_copy(
    update={"name": "classify-prompt", "task": "classify-prompt"}
)


def finetuning(model: ModelConfig) -> TrainConfig:
    """Return the preset for fine-tuning weights of an architecture."""
    base = PRESETS["finetune-small" if model.encoder == "conv" else "finetune"]
    return base.model_copy(update={"model": model})


def preset(name: str) -> TrainConfig:
    """Return a preset by name. Raises UnknownName for an unknown name."""
    if name not in PRESETS:
        raise UnknownName(
            f"Unknown training preset {name!r}: use one of {', '.join(PRESETS)}.", next="us43d train --help"
        )
    return PRESETS[name]


def read(base: TrainConfig, file: Path | None = None, **changes: Any) -> TrainConfig:
    """Override values of a configuration.

    Args:
        base: The configuration to start from.
        file: TOML or JSON file with values. It may name its own base (preset = "…"). `model` is the name of a model
            preset or a table of values; `head` is a table of values.
        changes: Values that override those of the file.

    Returns:
        The resulting configuration.

    Raises:
        ConfigError: The file cannot be read, or values are invalid; names each of them.
        UnknownName: Unknown preset.
    """
    values = _parsed(file) if file else {}
    if "preset" in values:
        base = preset(str(values.pop("preset")))
    values |= changes
    shape = values.pop("model", None)
    if isinstance(shape, str):
        if shape not in MODELS:
            raise UnknownName(f"Unknown model preset {shape!r}: use one of {', '.join(MODELS)}.")
        values["model"] = MODELS[shape].model_dump()
    elif shape is not None:
        values["model"] = base.model.model_dump() | dict(shape)
    if isinstance(values.get("head"), dict):
        values["head"] = base.head.model_dump() | values["head"]
    try:
        return TrainConfig.model_validate(base.model_dump() | values)
    except ValidationError as error:
        where = f" in {file}" if file else ""
        raise ConfigError(f"Invalid training configuration{where}: {listed(faults(error))}.") from error


def faults(error: ValidationError) -> Iterator[str]:
    """Yield each fault with its field; a check of several fields names them itself."""
    for fault in error.errors():
        field = ".".join(map(str, fault["loc"]))
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            known = {normalised(name): name for name in (*TrainConfig.model_fields, *ModelConfig.model_fields)}
            close = [known[name] for name in nearest(field.rpartition(".")[2], known)]
            message = "unknown setting" + (f" (did you mean {' or '.join(close)}?)" if close else "")
        elif fault["type"] != "value_error" and isinstance(fault["input"], str | int | float):
            message += f": {fault['input']!r}"
        yield (f"{field}: " if field else "") + message


def _parsed(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text("utf-8-sig")
        settings = limits.parsed_json(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} is not a readable TOML or JSON file: {error}.") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{file} does not contain a table of settings.")
    return settings
