"""Configuration of a model's architecture; stored with its weights."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["MEAN", "PRESETS", "STD", "ModelConfig"]

#: ImageNet's mean and standard deviation of red, green, blue in 0..255, as in SAM.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

_Width: TypeAlias = Annotated[int, Field(gt=0, le=16384)]


class ModelConfig(BaseModel):
    """Define the architecture of a model; stored with the weights.

    Attributes:
        encoder: "vit" is SAM's image encoder; "conv" a convolutional encoder that also gives features of strides 4 and
            8 to the mask decoder.
        image_size: Side of the network's input, in pixels.
        stretch: Resize an image to a square; otherwise its long side is resized and the rest padded with zeros.
        patch_size: Side of a patch, the stride of the embedding, in pixels.
        embed_dim: Channels of the ViT ("vit" only).
        depth: Blocks of the ViT ("vit" only).
        heads: Attention heads of the ViT ("vit" only).
        mlp_ratio: Hidden units of the ViT's MLPs divided by embed_dim ("vit" only).
        window: Side of the attention windows, in patches ("vit" only).
        global_blocks: Blocks with attention over the whole grid, from 0 ("vit" only).
        widths: Channels at strides 2, 4, 8, 16 and 32 ("conv" only).
        blocks: Residual blocks at strides 2, 4, 8, 16 and 32 ("conv" only).
        prompt_dim: Channels of the embedding and of the prompt tokens.
        masks: Masks predicted per prompt. 4 as in SAM: the first for unambiguous prompts, three for others.
        structures: Rows of the embedding table of structures, one per id of the taxonomy; 0 for a model with box and
            point prompts only. With structures, the decoder also predicts whether the structure is present.
        look: Channels of the second look (us43d.model.look), by level; empty for a model without it.
        look_size: Side of the crop of the second look, in pixels.
        decoder_depth: Layers of the mask decoder.
        decoder_heads: Attention heads of the mask decoder.
        decoder_mlp: Hidden units of the mask decoder's MLPs.
        decoder_dropout: Dropout of the mask decoder's MLPs.
        iou_hidden: Hidden units of the head that predicts the IoU.
        mlp_residual: "single" is Meta's and MedSAM's decoder, q = norm(q + mlp(q)); "double" is UltraSam's, which adds
            the residual twice, q = norm(2q + mlp(q)).
        encoder_eps: Epsilon of the encoder's layer normalization.
        decoder_eps: Epsilon of the decoder's layer normalization.
        fourier_scale: Standard deviation of the random frequencies of the position encoding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: Literal["vit", "conv"] = "vit"
    image_size: int = Field(default=1024, gt=0, le=16384)
    stretch: bool = False
    patch_size: int = Field(default=16, gt=0, le=1024)
    embed_dim: int = Field(default=768, gt=0, le=16384)
    depth: int = Field(default=12, gt=0, le=256)
    heads: int = Field(default=12, gt=0, le=1024)
    mlp_ratio: float = Field(default=4.0, gt=0, le=64)
    window: int = Field(default=14, gt=0, le=1024)
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    widths: tuple[_Width, ...] = ()
    blocks: tuple[Annotated[int, Field(ge=0, le=256)], ...] = ()
    prompt_dim: int = Field(default=256, gt=0, le=16384)
    masks: int = Field(default=4, gt=0, le=64)
    structures: int = Field(default=0, ge=0, le=65536)
    look: tuple[_Width, ...] = ()
    look_size: int = Field(default=128, gt=0, le=4096)
    decoder_depth: int = Field(default=2, gt=0, le=256)
    decoder_heads: int = Field(default=8, gt=0, le=1024)
    decoder_mlp: int = Field(default=2048, gt=0, le=131072)
    decoder_dropout: float = Field(default=0.0, ge=0, lt=1)
    iou_hidden: int = Field(default=256, gt=0, le=16384)
    mlp_residual: Literal["single", "double"] = "single"
    encoder_eps: float = 1e-6
    decoder_eps: float = 1e-5
    fourier_scale: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _divisible(self) -> "ModelConfig":
        for size, divisor in (
            ("image_size", "patch_size"), ("embed_dim", "heads"), ("prompt_dim", "decoder_heads"),
        ):  # fmt: skip
            if getattr(self, size) % getattr(self, divisor):
                raise ValueError(
                    f"{size} {getattr(self, size)} is not a multiple of {divisor} {getattr(self, divisor)}"
                )
        if self.prompt_dim % 8 or (self.prompt_dim // 2) % self.decoder_heads:
            raise ValueError(
                f"prompt_dim {self.prompt_dim} is not divisible into {self.decoder_heads} heads of half that width"
            )
        if self.encoder == "conv" and not len(self.widths) == len(self.blocks) == 5:
            raise ValueError("a conv encoder needs 5 values of widths and of blocks, one per stride 2 to 32")
        if self.encoder == "conv" and (self.patch_size != 16 or self.image_size % 32):
            raise ValueError("a conv encoder needs patch_size 16 and an image_size divisible by 32")
        if self.look and self.look_size % 2 ** (len(self.look) - 1):
            raise ValueError(f"look_size {self.look_size} cannot be halved {len(self.look) - 1} times")
        if outside := [block for block in self.global_blocks if not 0 <= block < self.depth]:
            raise ValueError(f"global_blocks {outside} are outside the {self.depth} blocks")
        return self

    @property
    def grid(self) -> int:
        """Side of the embedding's grid, in patches."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Side of the low-resolution logits and of mask prompts, in pixels."""
        return 4 * self.grid


#: vit_b, vit_l and vit_h are Meta's; tiny is the same network in miniature, for a CPU; small is the model that is
#: shipped with us43d; nano has the components of small at a size that trains in minutes.
PRESETS: dict[str, ModelConfig] = {
    "vit_b": ModelConfig(),
    "vit_l": ModelConfig(embed_dim=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23)),
    "vit_h": ModelConfig(embed_dim=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31)),
    "ultrasam": ModelConfig(mlp_residual="double", decoder_dropout=0.1),
    "ultrasam-clicks": ModelConfig(mlp_residual="double", decoder_dropout=0.1, structures=128),
    "tiny": ModelConfig(
        image_size=128,
        patch_size=8,
        embed_dim=96,
        depth=4,
        heads=3,
        window=8,
        global_blocks=(1, 3),
        prompt_dim=64,
        decoder_heads=4,
        decoder_mlp=256,
        iou_hidden=64,
        fourier_scale=0.5,
    ),
    "small": ModelConfig(
        encoder="conv",
        image_size=256,
        stretch=True,
        widths=(24, 48, 96, 160, 224),
        blocks=(0, 1, 2, 2, 1),
        prompt_dim=128,
        decoder_heads=4,
        decoder_mlp=512,
        iou_hidden=128,
        fourier_scale=0.5,
        masks=1,
        structures=128,
        look=(16, 32, 64, 96, 128),
    ),
    "nano": ModelConfig(
        encoder="conv",
        image_size=128,
        stretch=True,
        widths=(16, 24, 48, 80, 112),
        blocks=(0, 1, 1, 1, 1),
        prompt_dim=64,
        decoder_heads=4,
        decoder_mlp=256,
        iou_hidden=64,
        fourier_scale=0.5,
        masks=1,
        structures=128,
        look=(12, 24, 48, 64),
        look_size=96,
    ),
}
