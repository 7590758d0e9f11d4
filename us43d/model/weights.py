"""Weights in and out: Meta's and MedSAM's .pth, UltraSam's mmengine .pth, Hugging Face SamModel folders, and our own.

Inside, tensors have Meta's names. Nothing in a file is ever executed: a pickle is read by an unpickler that knows how
tensors are stored and takes everything else for inert.
"""

import json
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from pydantic import ValidationError
from torch import Tensor

from us43d import atomic, pickles
from us43d.errors import StorageError, UsageError, WeightsError, listed
from us43d.model.network import ModelConfig, UltraSam
from us43d.model.published import PUBLISHED
from us43d.pickles import PickleError

__all__ = [
    "PREPROCESSOR", "SHIPPED", "Form", "Loaded", "Preprocessing", "adapted", "export", "fit", "load", "save", "shipped"
]  # fmt: skip

Form: TypeAlias = Literal["us43d", "meta", "ultrasam", "huggingface"]
#: How an image is resized: "sam" rounds its sides and averages where it is reduced, as Meta's ResizeLongestSide does;
#: "ultrasam" rounds them down and interpolates alone.
Preprocessing: TypeAlias = Literal["sam", "ultrasam"]
State: TypeAlias = dict[str, Tensor]

#: The name of the weights that come with us43d.
SHIPPED = "us43d-small"

_GAUSSIAN = "positional_encoding_gaussian_matrix"
CONFIG = "config.json"
TENSORS = "model.safetensors"
#: Of a Hugging Face folder; the key "us43d" in it records what `Preprocessing` the weights were trained with.
PREPROCESSOR = "preprocessor_config.json"


class Loaded:
    """What a weights file holds.

    Attributes:
        state: Tensors under Meta's names.
        form: Whose form the file had.
        notes: What a person should know.
        meta: What a run of us43d kept with its weights; empty for other forms.
    """

    def __init__(
        self,
        state: State,
        config: ModelConfig,
        form: Form,
        notes: tuple[str, ...] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.state, self.config, self.form, self.notes = state, config, form, notes
        self.meta = dict(meta or {})

    @property
    def structures(self) -> dict[int, str]:
        """The structures the model was trained to find by name: id of the taxonomy → name."""
        learnt = self.meta.get("structures")
        pairs = learnt.items() if isinstance(learnt, dict) else ()
        return {int(key): str(name) for key, name in pairs if str(key).isdigit()}

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are resized for these weights: as recorded with them; without a record, by their form."""
        recorded, public = self.meta.get("preprocessing"), self.meta.get("public")
        if recorded in ("sam", "ultrasam"):
            return recorded
        if isinstance(public, str) and public in PUBLISHED:
            return "ultrasam" if public == "ultrasam" else "sam"
        return "sam" if self.form in ("meta", "huggingface") else "ultrasam"

    def model(self) -> UltraSam:
        """The model with these weights, in evaluation mode."""
        with torch.device("meta"):  # a configuration that claims more than the file holds reserves nothing
            _compare(UltraSam(self.config), self.state)
        model = UltraSam(self.config)
        fit(model, self.state)
        return model.eval()


def fit(model: UltraSam, state: State) -> None:
    """Load a state, all of it. Raises WeightsError naming tensors that are missing, left over or of another shape."""
    _compare(model, state)
    model.load_state_dict(state)


def _compare(model: UltraSam, state: State) -> None:
    own = model.state_dict()
    wrong = [f"{n} is {tuple(state[n].shape)}, should be {tuple(own[n].shape)}" for n in own if n in state
             and state[n].shape != own[n].shape]  # fmt: skip
    for what, names in (
        ("missing", own.keys() - state.keys()),
        ("left over", state.keys() - own.keys()),
        ("misshapen", wrong),
    ):
        if names:
            raise WeightsError(f"{len(names)} tensors are {what}: {listed(sorted(names), 5)}.")


# ------------------------------------------------------------------------------------------------------------- reading


def load(path: Path) -> Loaded:
    """Read weights of any known form: a .pth or .safetensors file, or a folder with config.json and model.safetensors.

    Raises WeightsError if the file is unreadable, unsafe, or of no model we know.
    """
    if not path.exists():
        raise WeightsError(f"{path} does not exist.", next="us43d weights show")
    if path.is_dir():
        return _folder(path)
    raw = _safetensors(path) if path.suffix == ".safetensors" else _tensors(read_pickle(path), path)
    if any(name.startswith("backbone.") for name in raw):
        state = _from_ultrasam({name.removeprefix("module."): value for name, value in raw.items()})
        notes = ("decoder with double residual, as UltraSam was trained",)
        return Loaded(state, _infer(state, path, "double"), "ultrasam", notes)
    if any(name.startswith("vision_encoder.") for name in raw):
        state = _from_huggingface(raw)
        return Loaded(state, _infer(state, path, "single"), "huggingface")
    if any(name.startswith("image_encoder.") for name in raw):
        return Loaded(raw, _infer(raw, path, "single"), "meta")
    raise WeightsError(f"{path} holds {len(raw)} tensors of no model us43d knows, such as {listed(sorted(raw), 3)}.")


def _folder(path: Path) -> Loaded:
    try:
        config = json.loads((path / CONFIG).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} has no readable {CONFIG}: {error}.") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path / CONFIG} holds {type(config).__name__}, not the settings of a model.")
    raw = _safetensors(path / TENSORS)
    if "us43d" in config:
        try:
            meta = config.get("meta")
            shape = ModelConfig.model_validate(config["us43d"])
            return Loaded(raw, shape, "us43d", meta=meta if isinstance(meta, dict) else None)
        except ValidationError as error:
            raise WeightsError(
                f"{path / CONFIG} describes no model of this version: {error.error_count()} faults."
            ) from error
    state = _from_huggingface(raw)
    inferred = _infer(state, path, "single")
    decoder = config.get("mask_decoder_config")
    eps = decoder.get("layer_norm_eps", inferred.decoder_eps) if isinstance(decoder, dict) else inferred.decoder_eps
    if not isinstance(eps, float | int) or not 0 < eps < 1:
        raise WeightsError(f"{path / CONFIG} has the layer_norm_eps {eps!r}, which is not a small number.")
    heads = decoder.get("num_attention_heads", inferred.decoder_heads) if isinstance(decoder, dict) else None
    try:
        values = inferred.model_dump() | {"decoder_eps": eps, "decoder_heads": heads or inferred.decoder_heads}
        fitting = ModelConfig.model_validate(values)
    except ValidationError as error:
        raise WeightsError(f"{path / CONFIG} has {heads!r} attention heads, which do not fit its tensors.") from error
    return Loaded(state, fitting, "huggingface", meta=_recorded(path))


def _recorded(folder: Path) -> dict[str, Any]:
    """What `us43d weights export` recorded in a Hugging Face folder; empty for folders of others."""
    try:
        content = json.loads((folder / PREPROCESSOR).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{folder} has no readable {PREPROCESSOR}: {error}.") from error
    record = content.get("us43d") if isinstance(content, dict) else None
    return record if isinstance(record, dict) else {}


def _safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is no readable safetensors file: {error}.") from error


_DTYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64, "LongStorage": torch.int64, "IntStorage": torch.int32, "ShortStorage": torch.int16,
    "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


def _rebuild(storage: object, offset: Any, size: Any, stride: Any, *rest: object) -> Tensor:
    """A tensor of its storage. One that is larger than that (a stride of 0) would grow when it is used."""
    if not isinstance(storage, Tensor):
        raise PickleError("has a tensor without storage")
    shape, steps = pickles.whole_numbers(size), pickles.whole_numbers(stride)
    (begin,) = pickles.whole_numbers((offset,))
    pickles.length(shape, storage.numel())
    return storage.as_strided(shape, steps, begin)


def _parameter(data: object, *rest: object) -> Tensor:
    if not isinstance(data, Tensor):
        raise PickleError("has a parameter without a tensor")
    return data


#: Modules that run, open or send something; a file that names one is refused, though nothing of it would be run.
_HOSTILE = frozenset({
    "os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "importlib", "runpy", "pty", "ctypes", "code",
    "codeop", "commands", "webbrowser", "pickle", "_pickle", "marshal", "io", "_io", "tempfile", "urllib",
})  # fmt: skip
_HOSTILE_BUILTINS = frozenset({"eval", "exec", "compile", "open", "__import__", "input", "breakpoint", "execfile"})
_KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): lambda pairs=(): dict(pickles.pairs(pairs)),
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
#: Operations of a checkpoint's pickle: a model's needs some ten thousand, a history of training more.
_MOST_OPERATIONS = 5_000_000
#: Bytes of the pickle itself, which names the tensors, and what the archive may unpack to beyond its own size.
_MOST_PICKLE = 1 << 28


def _find(path: Path) -> Callable[[str, str], Any]:
    """What the names of a checkpoint stand for: tensors and their containers are known, the rest is inert."""

    def find(module: str, name: str) -> Any:
        builtin = module in ("builtins", "__builtin__") and name in _HOSTILE_BUILTINS
        if builtin or module in _HOSTILE or module.partition(".")[0] in _HOSTILE:
            raise WeightsError(f"{path} would run {module}.{name} in a program that trusts it; it is refused.")
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        return _KNOWN.get((module, name), pickles.Inert)

    return find


class _Storages:
    """The bytes of tensors, which lie beside the pickle in the archive; each is read once."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        self._archive, self._root = archive, root
        self._read: dict[tuple[str, torch.dtype], Tensor] = {}

    def __call__(self, identifier: Any) -> Tensor:
        if not isinstance(identifier, tuple) or len(identifier) < 3 or identifier[0] != "storage":
            raise PickleError("has a storage of unknown kind")
        dtype, key = identifier[1], identifier[2]
        if not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise PickleError("has a storage of unknown kind")
        if (key, dtype) not in self._read:
            data = bytearray(self._archive.read(f"{self._root}data/{key}"))
            self._read[key, dtype] = torch.frombuffer(data, dtype=dtype) if data else torch.zeros(0, dtype=dtype)
        return self._read[key, dtype]


def read_pickle(path: Path) -> Any:
    """What a PyTorch zip file holds, with every object that is no tensor or plain container made inert.

    Raises WeightsError for other files: the form before PyTorch 1.6 has no such container.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(roots) != 1:
                raise WeightsError(f"{path} is a zip file, but holds no PyTorch checkpoint.")
            pickled = archive.getinfo(f"{roots[0]}data.pkl").file_size
            unpacked = sum(member.file_size for member in archive.infolist())
            if pickled > _MOST_PICKLE or unpacked > path.stat().st_size + _MOST_PICKLE:  # PyTorch compresses nothing
                raise WeightsError(f"{path} unpacks to {unpacked:,} bytes, far more than the file has.")
            data, storages = archive.read(f"{roots[0]}data.pkl"), _Storages(archive, roots[0])
            return pickles.load(data, _find(path), most=_MOST_OPERATIONS, persistent=storages)
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path} is no PyTorch checkpoint of 1.6 or later, or is truncated: {error}.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    except PickleError as error:
        raise WeightsError(f"{path} does not hold tensors in a way us43d reads: it {error}.") from error
    except _DAMAGED as error:
        raise WeightsError(f"{path} does not hold tensors in a way us43d reads: {error!r}.") from error


#: What zipfile and torch raise for an archive that is damaged, encrypted, or compressed as nobody does.
_DAMAGED = (
    KeyError, ValueError, TypeError, AttributeError, IndexError, EOFError, RuntimeError, OverflowError, zlib.error,
    lzma.LZMAError, struct.error,
)  # fmt: skip


def _tensors(content: Any, path: Path) -> State:
    """The state dict of a checkpoint: at the top, or under "state_dict" or "model"."""
    for name in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds {type(content).__name__}, no weights.")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(f"{path} holds no tensors.")
    return state


def _infer(state: State, path: Path, residual: Literal["single", "double"]) -> ModelConfig:
    """The configuration that fits the shapes. Raises WeightsError if a tensor it needs is missing."""
    try:
        grid = state["image_encoder.pos_embed"].shape[1]
        dim, _, patch, _ = state["image_encoder.patch_embed.proj.weight"].shape
        blocks = {int(m[1]) for name in state if (m := re.match(r"image_encoder\.blocks\.(\d+)\.", name))}
        sides = {n: (state[f"image_encoder.blocks.{n}.attn.rel_pos_h"].shape[0] + 1) // 2 for n in blocks}
        layers = {int(m[1]) for name in state if (m := re.match(r"mask_decoder\.transformer\.layers\.(\d+)\.", name))}
        windows = {side for side in sides.values() if side != grid}
        return ModelConfig(
            image_size=grid * patch,
            patch_size=patch,
            embed_dim=dim,
            depth=len(blocks),
            heads=dim // state["image_encoder.blocks.0.attn.rel_pos_h"].shape[1],
            mlp_ratio=state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / dim,
            window=max(windows, default=14),
            global_blocks=tuple(sorted(n for n, side in sides.items() if side == grid)),
            prompt_dim=state["image_encoder.neck.0.weight"].shape[0],
            decoder_depth=len(layers),
            decoder_mlp=state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
            iou_hidden=state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
            mlp_residual=residual,
            decoder_dropout=0.1 if residual == "double" else 0.0,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"{path} is no complete SAM: {error}.") from error


# --------------------------------------------------------------------------------------------------------- other names

# (Meta's name, UltraSam's); the decoder's attention, the token table and the prompt encoder need more than a name.
_ULTRASAM = (
    (r"image_encoder\.patch_embed\.proj\.", "backbone.patch_embed.projection."),
    (r"image_encoder\.pos_embed", "backbone.pos_embed"),
    (r"image_encoder\.neck\.", "backbone.channel_reduction."),
    (r"image_encoder\.blocks\.(\d+)\.norm([12])\.", r"backbone.layers.\1.ln\2."),
    (r"image_encoder\.blocks\.(\d+)\.attn\.", r"backbone.layers.\1.attn."),
    (r"image_encoder\.blocks\.(\d+)\.mlp\.lin1\.", r"backbone.layers.\1.ffn.layers.0.0."),
    (r"image_encoder\.blocks\.(\d+)\.mlp\.lin2\.", r"backbone.layers.\1.ffn.layers.1."),
    (r"mask_decoder\.transformer\.layers\.(\d+)\.mlp\.lin1\.", r"decoder.layers.\1.mlp.layers.0.0."),
    (r"mask_decoder\.transformer\.layers\.(\d+)\.mlp\.lin2\.", r"decoder.layers.\1.mlp.layers.1."),
    (r"mask_decoder\.transformer\.norm_final_attn\.", "decoder.post_norm."),
    (r"mask_decoder\.transformer\.", "decoder."),
    (r"mask_decoder\.(output_upscaling|output_hypernetworks_mlps|iou_prediction_head)\.", r"bbox_head.\1."),
)
_LABELS = "prompt_encoder.label_encoder.label_embedding.weight"
# Rows of UltraSam's one table of labels.
_ROWS = {
    "prompt_encoder.no_mask_embed.weight": (0, 1),
    "prompt_encoder.point_embeddings.0.weight": (1, 2),
    "prompt_encoder.point_embeddings.1.weight": (2, 3),
    "prompt_encoder.point_embeddings.2.weight": (3, 4),
    "prompt_encoder.point_embeddings.3.weight": (4, 5),
    "prompt_encoder.not_a_point_embed.weight": (5, 6),
    "mask_decoder.mask_tokens.weight": (6, 10),
    "mask_decoder.iou_token.weight": (10, 11),
}
_HUGGINGFACE = (
    (r"image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"image_encoder\.pos_embed", "vision_encoder.pos_embed"),
    (r"image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"image_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head))\.layers\.0\.", r"\1.proj_in."),
    (r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head))\.layers\.1\.", r"\1.layers.0."),
    (r"(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head))\.layers\.2\.", r"\1.proj_out."),
)
_GAUSS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_HF_GAUSS = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, to in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", to, name)
    return name


def _skeleton(count: int, depth: int) -> list[str]:
    """Meta's names for a model of `count` encoder blocks and `depth` decoder layers."""
    config = ModelConfig(
        image_size=16, patch_size=8, embed_dim=8, depth=count, heads=1, global_blocks=(), prompt_dim=16,
        decoder_depth=depth, decoder_mlp=8, iou_hidden=8,
    )  # fmt: skip
    with torch.device("meta"):
        return list(UltraSam(config).state_dict())


def _sizes(raw: State, encoder: str, decoder: str) -> tuple[int, int]:
    def largest(pattern: str) -> int:
        return max((int(m[1]) for name in raw if (m := re.match(pattern, name))), default=0) + 1

    return largest(encoder), largest(decoder)


def _attention(name: str) -> tuple[str, str, str] | None:
    """(module, q|k|v, weight|bias) of a projection of the decoder's attention under Meta's name."""
    found = re.match(r"(mask_decoder\.transformer\..*attn.*)\.([qkv])_proj\.(weight|bias)$", name)
    return (found[1], found[2], found[3]) if found else None


def _from_ultrasam(raw: State) -> State:
    state: State = {}
    names = _skeleton(*_sizes(raw, r"backbone\.layers\.(\d+)\.", r"decoder\.layers\.(\d+)\."))
    used = set()

    def take(name: str) -> Tensor:
        if name not in raw:
            raise WeightsError(f"The tensor {name} is missing, so this is no complete UltraSam.")
        used.add(name)
        return raw[name]

    for name in names:
        if name in _ROWS:
            state[name] = take(_LABELS)[slice(*_ROWS[name])]
        elif (part := _attention(name)) is not None:
            module = _renamed(part[0] + ".", _ULTRASAM)
            if part[2] == "weight":
                state[name] = take(f"{module}attn.{part[1]}_proj_weight")
            else:
                state[name] = take(f"{module}attn.in_proj_bias").chunk(3)["qkv".index(part[1])]
        elif name.endswith(("out_proj.weight", "out_proj.bias")):
            module, _, rest = name.rpartition("out_proj.")
            state[name] = take(f"{_renamed(module, _ULTRASAM)}attn.out_proj.{rest}")
        else:
            state[name] = take(_renamed(name, _ULTRASAM))
    if left := raw.keys() - used:
        raise WeightsError(f"{len(left)} tensors of the UltraSam file have no place: {listed(sorted(left), 5)}.")
    return {name: value.clone() for name, value in state.items()}


def _to_ultrasam(state: State) -> State:
    raw: State = {_LABELS: torch.cat([state[n] for n, _ in sorted(_ROWS.items(), key=lambda item: item[1])])}
    for name, value in state.items():
        if name in _ROWS:
            continue
        if (part := _attention(name)) is not None:
            module = _renamed(part[0] + ".", _ULTRASAM)
            if part[2] == "weight":
                raw[f"{module}attn.{part[1]}_proj_weight"] = value
            else:
                raw[f"{module}attn.in_proj_bias"] = torch.cat([state[f"{part[0]}.{x}_proj.bias"] for x in "qkv"])
        elif name.endswith(("out_proj.weight", "out_proj.bias")):
            module, _, rest = name.rpartition("out_proj.")
            raw[f"{_renamed(module, _ULTRASAM)}attn.out_proj.{rest}"] = value
        else:
            raw[_renamed(name, _ULTRASAM)] = value
    return raw


def _from_huggingface(raw: State) -> State:
    state: State = {}
    depth = r"mask_decoder\.transformer\.layers\.(\d+)\."
    for name in _skeleton(*_sizes(raw, r"vision_encoder\.layers\.(\d+)\.", depth)):
        source = (
            next((n for n in _HF_GAUSS if n in raw), _HF_GAUSS[0]) if name == _GAUSS else _renamed(name, _HUGGINGFACE)
        )
        if source not in raw:
            raise WeightsError(f"The tensor {source} is missing, so this is no complete SamModel.")
        state[name] = raw[source]
    return state


def _to_huggingface(state: State) -> State:
    raw = {_renamed(name, _HUGGINGFACE): value for name, value in state.items() if name != _GAUSS}
    return raw | dict.fromkeys(_HF_GAUSS, state[_GAUSS])


# ------------------------------------------------------------------------------------------------------------- writing


def save(model: UltraSam, path: Path, meta: Mapping[str, Any] | None = None, *, half: bool = False) -> None:
    """Write our own form: a folder with model.safetensors and config.json.

    Args:
        model: Its weights are written.
        path: The folder.
        meta: Kept beside the configuration.
        half: Write float16, half the size. The coordinates of the prompt encoder keep their precision.
    """
    config = {"us43d": model.config.model_dump(mode="json"), "meta": dict(meta or {})}
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if half:
        state = {name: value if name.endswith(_GAUSSIAN) else value.half() for name, value in state.items()}
    _write_folder(path, state, config)


def shipped() -> Path:
    """The folder of the weights that come with us43d (`SHIPPED`)."""
    return Path(str(resources.files("us43d.weights").joinpath("small")))


def export(loaded: Loaded, path: Path, form: Form, public: str | None = None) -> tuple[str, ...]:
    """Write weights in another form; returns what a person should know.

    public: the name of the public weights that these are, which the form us43d keeps.

    A decoder with double residual goes into a container that cannot say so through an equal one with single residual:
    norm(2q + m) = norm(q + m/2) but for epsilon, so the MLP's second layer is halved.
    """
    state = loaded.state
    notes: tuple[str, ...] = ()
    config = loaded.config
    if form != "us43d" and (config.encoder != "vit" or config.structures or config.look or config.stretch):
        raise UsageError(
            f"A model with a {config.encoder} encoder"
            + (", structures" if config.structures else "")
            + (", a second look" if config.look else "")
            + f" has no equal among SAM's, which the form {form} holds.",
            next="the same with --to onnx, or --to us43d",
        )
    if form == "ultrasam" and loaded.config.mlp_residual == "single":
        state = _scaled(state, 2.0)
        notes = ("the decoder's second MLP layers were doubled, as UltraSam's code adds the residual twice",)
    if form in ("meta", "huggingface") and loaded.config.mlp_residual == "double":
        state = _scaled(state, 0.5)
        notes = ("the decoder's second MLP layers were halved, so that a stock SAM computes what UltraSam does",)
    if form == "meta" and loaded.preprocessing == "ultrasam":
        notes += ("this form does not record the preprocessing; us43d will resize images for it as for SAM",)
    if form == "us43d":
        _write_folder(
            path,
            state,
            {
                "us43d": config.model_dump(mode="json"),
                "meta": loaded.meta | {"preprocessing": loaded.preprocessing} | ({"public": public} if public else {}),
            },
        )
    elif form == "huggingface":
        _write_folder(path, _to_huggingface(state), _huggingface_config(loaded.config))
    else:
        content: Any = {"meta": {}, "state_dict": _to_ultrasam(state)} if form == "ultrasam" else dict(state)
        _write(path, lambda temporary: torch.save(content, temporary))
    return notes


def adapted(loaded: Loaded, residual: Literal["single", "double"]) -> State:
    """The state for a decoder of that residual, so that it computes what the weights did where they came from."""
    if loaded.config.mlp_residual == residual:
        return loaded.state
    return _scaled(loaded.state, 2.0 if residual == "double" else 0.5)


def _scaled(state: State, factor: float) -> State:
    second = re.compile(r"mask_decoder\.transformer\.layers\.\d+\.mlp\.lin2\.")
    return {name: value * factor if second.match(name) else value for name, value in state.items()}


def _huggingface_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "architectures": ["SamModel"],
        "model_type": "sam",
        "vision_config": {
            "hidden_size": config.embed_dim, "output_channels": config.prompt_dim,
            "num_hidden_layers": config.depth, "num_attention_heads": config.heads, "image_size": config.image_size,
            "patch_size": config.patch_size, "mlp_dim": int(config.embed_dim * config.mlp_ratio),
            "window_size": config.window, "global_attn_indexes": list(config.global_blocks),
            "layer_norm_eps": config.encoder_eps, "num_pos_feats": config.prompt_dim // 2, "use_rel_pos": True,
        },
        "prompt_encoder_config": {
            "hidden_size": config.prompt_dim, "image_size": config.image_size, "patch_size": config.patch_size,
            "mask_input_channels": 16, "num_point_embeddings": 4, "layer_norm_eps": config.encoder_eps,
        },
        "mask_decoder_config": {
            "hidden_size": config.prompt_dim, "mlp_dim": config.decoder_mlp, "num_hidden_layers": config.decoder_depth,
            "num_attention_heads": config.decoder_heads, "iou_head_hidden_dim": config.iou_hidden,
            # Of the decoder's blocks; SamModel has fixed ones for its last norm (1e-5) and its upscaling (1e-6).
            "layer_norm_eps": config.decoder_eps,
        },
    }  # fmt: skip


def _write_folder(path: Path, state: State, config: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    tensors = {name: value.contiguous().clone() for name, value in state.items()}
    _write(path / TENSORS, lambda temporary: save_file(tensors, temporary, {"format": "pt"}))
    _write(path / CONFIG, lambda temporary: temporary.write_text(json.dumps(config, indent=1, sort_keys=True), "utf-8"))


def _write(path: Path, writer: Callable[[Path], object]) -> None:
    """Through a temporary name beside it, renamed when complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer(temporary)
        atomic.open_to_others(temporary)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
