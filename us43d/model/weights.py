"""Read and write weights: Meta's and MedSAM's .pth, UltraSam's mmengine .pth, Hugging Face folders, us43d's own form.

A ViT of ImageNet is read as initial weights of an encoder (us43d.model.imagenet).

Internally, tensors have Meta's names. Nothing in a file is executed (us43d.model.untrusted).
"""

import io
import json
import os
import re
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.overrides import TorchFunctionMode

from us43d import atomic
from us43d.errors import StorageError, UsageError, WeightsError, listed
from us43d.model import imagenet
from us43d.model.names import from_huggingface, from_ultrasam, to_huggingface, to_ultrasam
from us43d.model.network import ModelConfig, UltraSam
from us43d.model.published import PUBLISHED
from us43d.model.untrusted import read_pickle, read_safetensors

__all__ = [
    "PREPROCESSOR", "SHIPPED", "Form", "Loaded", "Preprocessing", "export", "fit", "load", "save", "shipped",
    "starting", "write_tensors",
]  # fmt: skip

#: "vit" is an image encoder alone, to start training from.
Form: TypeAlias = Literal["us43d", "meta", "ultrasam", "huggingface", "vit"]
#: How an image is resized: "sam" rounds the sides and antialiases, as Meta's ResizeLongestSide; "ultrasam" rounds the
#: sides down and interpolates without antialiasing.
Preprocessing: TypeAlias = Literal["sam", "ultrasam"]
State: TypeAlias = dict[str, Tensor]

#: Name of the weights that are shipped with us43d.
SHIPPED = "us43d-small"

#: Tensors of models with structures, which SAM's weights do not have.
_OF_STRUCTURES = ("prompt_encoder.structure_embeddings.", "mask_decoder.presence_")
_GAUSSIAN = "positional_encoding_gaussian_matrix"
CONFIG = "config.json"
TENSORS = "model.safetensors"
#: File of a Hugging Face folder; its key "us43d" records the `Preprocessing` of the weights.
PREPROCESSOR = "preprocessor_config.json"


class Loaded:
    """Content of a weights file.

    Attributes:
        state: Tensors with Meta's names.
        config: Architecture of the model.
        form: Form of the file.
        notes: Remarks for the user.
        meta: Record of the training run; empty for forms other than us43d's.
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
        """Structures the model was trained to find by name: id of the taxonomy → name."""
        learnt = self.meta.get("structures")
        pairs = learnt.items() if isinstance(learnt, dict) else ()
        return {int(key): str(name) for key, name in pairs if str(key).isdigit()}

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are resized for these weights: as recorded; without a record, by the form of the file."""
        recorded, public = self.meta.get("preprocessing"), self.meta.get("public")
        if recorded in ("sam", "ultrasam"):
            return recorded
        if isinstance(public, str) and public in PUBLISHED:
            return "ultrasam" if public == "ultrasam" else "sam"
        return "sam" if self.form in ("meta", "huggingface") else "ultrasam"

    def model(self) -> UltraSam:
        """Build the model with these weights, in evaluation mode. Raises WeightsError if the tensors do not fit."""
        if self.form == "vit":
            raise WeightsError(
                "The weights are those of an image encoder alone: training can start from them, but they segment "
                "nothing.",
                next="us43d train --task classify --init WEIGHTS",
            )
        # A configuration larger than the file allocates no memory.
        with torch.device("meta"), Unfilled():
            _compare(UltraSam(self.config), self.state)
        model = UltraSam(self.config)
        fit(model, self.state)
        return model.eval()


class Unfilled(TorchFunctionMode):
    """Leave new parameters without values.

    On the meta device they have none; but PyTorch's functions that fill them would import torch._dynamo and SymPy
    there, a second of a cold start.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor as it is for functions that fill it; call any other function."""
        kwargs = kwargs or {}
        if func.__name__ in ("normal_", "uniform_") or getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def fit(model: UltraSam, state: State) -> None:
    """Load a state completely.

    Args:
        model: Changed in place.
        state: Tensors with Meta's names.

    Raises:
        WeightsError: Tensors are missing, unexpected or of another shape.
    """
    _compare(model, state)
    model.load_state_dict(state)


def _compare(model: UltraSam, state: State) -> None:
    own = model.state_dict()
    wrong = [f"{n} is {tuple(state[n].shape)}, should be {tuple(own[n].shape)}" for n in own if n in state
             and state[n].shape != own[n].shape]  # fmt: skip
    for what, names in (
        ("missing", own.keys() - state.keys()),
        ("unexpected", state.keys() - own.keys()),
        ("of another shape", wrong),
    ):
        if names:
            raise WeightsError(
                f"{len(names)} tensors are {what}: {listed(sorted(names), 5)}. They are of another network, such as "
                "that of another version of us43d.",
                next="us43d weights show",
            )


# ------------------------------------------------------------------------------------------------------------- reading


def load(path: Path) -> Loaded:
    """Read weights of any known form.

    Args:
        path: A .pth or .safetensors file, or a folder with config.json and model.safetensors.

    Returns:
        The tensors with Meta's names, and the architecture.

    Raises:
        WeightsError: The file is unreadable, unsafe, or of an unknown model.
    """
    if not path.exists():
        raise WeightsError(f"{path} does not exist.", next="us43d weights show")
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise WeightsError(f"{path} is not a regular file.", next="us43d weights show")
    raw = read_safetensors(path) if path.suffix == ".safetensors" else _tensors(read_pickle(path), path)
    if imagenet.is_vit(raw):
        return _vit(raw, path, {})
    if any(name.startswith("backbone.") for name in raw):
        state = from_ultrasam({name.removeprefix("module."): value for name, value in raw.items()})
        notes = ("decoder with double residual, as UltraSam was trained",)
        return Loaded(state, _infer(state, path, "double"), "ultrasam", notes)
    if any(name.startswith("vision_encoder.") for name in raw):
        state = from_huggingface(raw)
        return Loaded(state, _infer(state, path, "single"), "huggingface")
    if any(name.startswith("image_encoder.") for name in raw):
        return Loaded(raw, _infer(raw, path, "single"), "meta")
    raise WeightsError(f"{path} holds {len(raw)} tensors of an unknown model, such as {listed(sorted(raw), 3)}.")


def _folder(path: Path) -> Loaded:
    try:
        config = json.loads((path / CONFIG).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path / CONFIG} is missing or unreadable: {error}.") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path / CONFIG} holds {type(config).__name__}, not the settings of a model.")
    raw = read_safetensors(path / TENSORS)
    if "us43d" in config:
        try:
            meta = config.get("meta")
            shape = ModelConfig.model_validate(config["us43d"])
            return Loaded(raw, shape, "us43d", meta=meta if isinstance(meta, dict) else None)
        except ValidationError as error:
            raise WeightsError(
                f"{path / CONFIG} is not a valid model configuration of this version: {error.error_count()} faults."
            ) from error
    if imagenet.is_vit(raw):
        return _vit(raw, path, config | _preprocessing(path))
    state = from_huggingface(raw)
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


def _vit(raw: State, path: Path, settings: Mapping[str, Any]) -> Loaded:
    state = imagenet.encoder_state(raw, path, settings)
    notes = ("an image encoder alone, for --init; relative positions, neck and decoder start from random values",)
    return Loaded(state, imagenet.shape_of(state, settings.get("num_attention_heads"), path), "vit", notes)


def _recorded(folder: Path) -> dict[str, Any]:
    """Read the record of `us43d weights export` in a Hugging Face folder; empty for other folders."""
    record = _preprocessing(folder).get("us43d")
    return record if isinstance(record, dict) else {}


def _preprocessing(folder: Path) -> dict[str, Any]:
    """Read preprocessor_config.json of a Hugging Face folder; empty without the file."""
    try:
        content = json.loads((folder / PREPROCESSOR).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{folder / PREPROCESSOR} is unreadable: {error}.") from error
    return content if isinstance(content, dict) else {}


def _tensors(content: Any, path: Path) -> State:
    """Return the state dict of a checkpoint: at the top level, or under "state_dict" or "model"."""
    for name in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds an object of type {type(content).__name__} instead of weights.")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(f"{path} does not contain tensors.")
    return state


def _infer(state: State, path: Path, residual: Literal["single", "double"]) -> ModelConfig:
    """Infer the architecture from the shapes of tensors. Raises WeightsError if a tensor is missing."""
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
        raise WeightsError(f"{path} is not a complete SAM: {error}.") from error


# ------------------------------------------------------------------------------------------------------------- writing


def save(model: UltraSam, path: Path, meta: Mapping[str, Any] | None = None, *, half: bool = False) -> None:
    """Write us43d's own form: a folder with model.safetensors and config.json.

    Args:
        model: Its weights are written.
        path: Destination folder.
        meta: JSON record stored with the configuration.
        half: Write float16, half the size. The position encoding of the prompt encoder keeps its precision.

    Raises:
        StorageError: A file cannot be written.
    """
    config = {"us43d": model.config.model_dump(mode="json"), "meta": dict(meta or {})}
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if half:
        state = {name: value if name.endswith(_GAUSSIAN) else value.half() for name, value in state.items()}
    _write_folder(path, state, config)


def shipped() -> Path:
    """Return the folder of the weights that are shipped with us43d (`SHIPPED`)."""
    return Path(str(resources.files("us43d.weights").joinpath("small")))


def export(loaded: Loaded, path: Path, form: Form, public: str | None = None) -> tuple[str, ...]:
    """Write weights in another form.

    Forms other than us43d's and UltraSam's cannot record a decoder with double residual. It is converted to a decoder
    with single residual by halving the second layer of its MLPs: norm(2q + m) = norm(q + m/2), apart from epsilon.

    Args:
        loaded: The weights.
        path: Destination: a folder for "us43d" and "huggingface", else a file.
        form: The form to write.
        public: Name of the public weights, if these are public weights; recorded in us43d's form.

    Returns:
        Remarks for the user.

    Raises:
        UsageError: The form cannot hold the model's architecture.
        StorageError: A file cannot be written.
    """
    state = loaded.state
    notes: tuple[str, ...] = ()
    config = loaded.config
    if loaded.form == "vit":
        raise UsageError(
            "The weights are those of an image encoder alone, which is read as it is, for --init.",
            next="us43d train --task classify --init WEIGHTS",
        )
    if form != "us43d" and (config.encoder != "vit" or config.structures or config.look or config.stretch):
        raise UsageError(
            f"A model with a {config.encoder} encoder"
            + (", structures" if config.structures else "")
            + (", a second look" if config.look else "")
            + f" does not have SAM's architecture, which the form {form} requires.",
            next="the same with --to onnx   (or --to us43d)",
        )
    if form == "ultrasam" and loaded.config.mlp_residual == "single":
        state = _scaled(state, 2.0)
        notes = ("the decoder's second MLP layers were doubled, as UltraSam's code adds the residual twice",)
    if form in ("meta", "huggingface") and loaded.config.mlp_residual == "double":
        state = _scaled(state, 0.5)
        notes = ("the decoder's second MLP layers were halved, so that an unmodified SAM gives UltraSam's results",)
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
        _write_folder(path, to_huggingface(state), _huggingface_config(loaded.config))
    else:
        content: Any = {"meta": {}, "state_dict": to_ultrasam(state)} if form == "ultrasam" else dict(state)
        written = io.BytesIO()  # torch.save on a full disk raises a RuntimeError without the cause
        torch.save(content, written)
        _write(path, lambda temporary: temporary.write_bytes(written.getbuffer()))
    return notes


def starting(loaded: Loaded, model: UltraSam) -> State:
    """Return the tensors with which the training of a model begins, for `fit`.

    Args:
        loaded: The initial weights. If they lack parts that SAM does not have (structures), or are an image encoder
            alone, the rest is the model's own.
        model: The model with random weights.
    """
    if loaded.form == "vit":
        return model.state_dict() | imagenet.resized(loaded.state, model.config.grid)
    state = loaded.state
    if loaded.config.mlp_residual != model.config.mlp_residual:  # with equal results
        state = _scaled(state, 2.0 if model.config.mlp_residual == "double" else 0.5)
    if model.config.structures and not loaded.config.structures:
        own = model.state_dict()
        state = state | {name: value for name, value in own.items() if name.startswith(_OF_STRUCTURES)}
    return state


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
    tensors = {name: value.contiguous().clone() for name, value in state.items()}
    _write(path / TENSORS, lambda temporary: write_tensors(tensors, temporary, {"format": "pt"}))
    _write(path / CONFIG, lambda temporary: temporary.write_text(json.dumps(config, indent=1, sort_keys=True), "utf-8"))


def write_tensors(tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises:
        OSError: With the system's number, which safetensors only names in the text of its own error.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), file, metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(file)) from error


def _write(path: Path, writer: Callable[[Path], object]) -> None:
    """Write under a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer(temporary)
        atomic.open_to_others(temporary)
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}.", next="df -h") from error
    finally:
        temporary.unlink(missing_ok=True)
