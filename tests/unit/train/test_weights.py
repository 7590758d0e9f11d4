"""Weights in and out: every form, stock SamModel on both sides, and files that are hostile or broken."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from us43d.errors import UsageError, WeightsError
from us43d.model import names, untrusted, weights
from us43d.model.config import MEAN, STD
from us43d.model.network import PRESETS, ModelConfig, UltraSam
from us43d.model.predictor import Predictor

SMALL = ModelConfig(
    image_size=128, patch_size=16, embed_dim=32, depth=3, heads=2, window=5, global_blocks=(1,), prompt_dim=32,
    decoder_mlp=64, iou_hidden=32,
)  # fmt: skip
DOUBLE = SMALL.model_copy(update={"mlp_residual": "double", "decoder_dropout": 0.1})
FORMS = ("us43d", "meta", "ultrasam", "huggingface")


def model(config: ModelConfig, seed: int = 0) -> UltraSam:
    """Random weights of a trained model's size: the relative positions, which begin at 0, too."""
    made = UltraSam.random(config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "rel_pos" in name or value.ndim == 1:
                value += 0.2 * torch.randn(value.shape, generator=generator)
    return made.eval()


def loaded(config: ModelConfig, form: weights.Form = "us43d") -> weights.Loaded:
    return weights.Loaded(model(config).state_dict(), config, form)


def stock(path: Path) -> Any:
    """The folder in transformers' own SamModel."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'us43d[dev]'")
    return transformers.SamModel.from_pretrained(path, attn_implementation="eager").eval()


@torch.inference_mode()
def differences(ours: UltraSam, theirs: Any) -> dict[str, float]:
    """Largest differences between our model and SamModel: embedding, logits and IoU of point, box and mask prompts."""
    generator = torch.Generator().manual_seed(3)
    side, low = ours.config.image_size, ours.config.mask_size
    image = torch.randn(1, 3, side, side, generator=generator)
    embedding = ours.encode(image)
    other = theirs.get_image_embeddings(image)
    points = torch.rand(3, 2, 2, generator=generator) * side
    labels = torch.tensor([[1, 0], [1, 1], [0, 1]])
    corners = torch.tensor([[[0.1, 0.2], [0.6, 0.7]]]) * side
    mask = torch.randn(1, 1, low, low, generator=generator) * 5
    gaps: dict[str, list[float]] = {"logits": [], "iou": []}
    # SamModel adds half a pixel to what it is given; ours takes places in the network's input as they are.
    for prompt in ("points", "box", "mask"):
        if prompt == "points":
            padded = torch.cat([points, torch.zeros(3, 1, 2)], 1), torch.cat([labels, torch.full((3, 1), -1)], 1)
            found = ours.decode(embedding.expand(3), *padded)
            them: dict[str, Any] = {"input_points": points[None] - 0.5, "input_labels": labels[None]}
        else:
            found = ours.decode(embedding, corners, torch.tensor([[2, 3]]), mask if prompt == "mask" else None)
            them = {"input_boxes": corners.view(1, 1, 4) - 0.5} | ({"input_masks": mask} if prompt == "mask" else {})
        single = theirs(image_embeddings=other, multimask_output=False, **them)
        several = theirs(image_embeddings=other, multimask_output=True, **them)
        for result, part in ((single, slice(0, 1)), (several, slice(1, 4))):
            gaps["logits"].append(float((result.pred_masks[0] - found[0][:, part]).abs().max()))
            gaps["iou"].append(float((result.iou_scores[0] - found[1][:, part]).abs().max()))
    return {"embedding": float((embedding.embedding - other).abs().max())} | {
        name: max(seen) for name, seen in gaps.items()
    }


def test_a_sam_model_comes_in_as_it_is(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'us43d[dev]'")
    from transformers.models.sam.configuration_sam import (
        SamConfig,
        SamMaskDecoderConfig,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    vision = SamVisionConfig(
        hidden_size=64, output_channels=256, num_hidden_layers=3, num_attention_heads=4, image_size=256, patch_size=16,
        mlp_dim=128, window_size=7, global_attn_indexes=[1],
    )  # fmt: skip
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config=SamPromptEncoderConfig(image_size=256),
        mask_decoder_config=SamMaskDecoderConfig(),
    )
    torch.manual_seed(0)
    theirs = transformers.SamModel(config).eval()
    _spread(theirs)
    theirs.save_pretrained(tmp_path / "sam")
    held = weights.load(tmp_path / "sam")
    assert (held.form, held.config.mlp_residual, held.config.window) == ("huggingface", "single", 7)
    assert held.config.decoder_eps == 1e-6  # SamModel's own default, unlike Meta's 1e-5
    gaps = differences(held.model(), stock(tmp_path / "sam"))
    assert gaps["embedding"] <= 1e-5
    assert gaps["logits"] <= 1e-3
    assert gaps["iou"] <= 1e-4


def _spread(theirs: Any) -> None:
    """Relative positions and norms begin at constants, which would hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in theirs.named_parameters():
            if "rel_pos" in name or value.ndim == 1:
                value += 0.1 * torch.randn(value.shape, generator=generator)


@pytest.mark.slow
def test_vit_b_comes_in_as_it_is(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'us43d[dev]'")
    torch.manual_seed(0)
    theirs = transformers.SamModel(transformers.SamConfig()).eval()
    _spread(theirs)
    theirs.save_pretrained(tmp_path / "vit_b")
    held = weights.load(tmp_path / "vit_b")
    assert held.config == ModelConfig(decoder_eps=1e-6)
    gaps = differences(held.model(), stock(tmp_path / "vit_b"))
    assert gaps["embedding"] <= 1e-5
    assert gaps["logits"] <= 1e-3


@pytest.mark.parametrize(
    ("preset", "shape"),
    [
        ("vit_l", {"hidden_size": 1024, "num_hidden_layers": 24, "global_attn_indexes": [5, 11, 17, 23]}),
        ("vit_h", {"hidden_size": 1280, "num_hidden_layers": 32, "global_attn_indexes": [7, 15, 23, 31]}),
    ],
)
def test_the_larger_models_have_the_parts_of_stock_sam(preset: str, shape: dict[str, Any]) -> None:
    """Names and shapes of Meta's ViT-L and ViT-H as transformers has them, without any memory for them; and from the
    shapes alone the configuration comes back."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'us43d[dev]'")
    config = transformers.SamConfig()
    vision = {"num_attention_heads": 16, "mlp_dim": 4 * shape["hidden_size"]} | shape
    config.vision_config = type(config.vision_config)(**vision)
    with torch.device("meta"):
        theirs = transformers.SamModel(config).state_dict()
        ours = dict(UltraSam(PRESETS[preset]).state_dict())
    found = names.to_huggingface(ours)
    missing = {name for name in set(theirs) - set(found) if "shared_image_embedding" not in name}
    assert missing == set()
    assert {name: value.shape for name, value in found.items() if name in theirs} == {
        name: value.shape for name, value in theirs.items() if name in found
    }
    assert weights._infer(ours, Path(preset), "single") == PRESETS[preset]


def test_single_residual_goes_out_exactly(tmp_path: Path) -> None:
    notes = weights.export(loaded(SMALL), tmp_path / "hf", "huggingface")
    assert notes == ()
    gaps = differences(model(SMALL), stock(tmp_path / "hf"))
    assert gaps["embedding"] <= 1e-5
    assert gaps["logits"] <= 1e-4
    assert gaps["iou"] <= 1e-5


def test_double_residual_goes_into_stock_sam_as_an_equal_model(tmp_path: Path) -> None:
    held = loaded(DOUBLE)
    (note,) = weights.export(held, tmp_path / "hf", "huggingface")
    assert "halved" in note
    gaps = differences(model(DOUBLE), stock(tmp_path / "hf"))
    assert gaps["embedding"] <= 1e-5
    assert gaps["logits"] <= 2e-3
    assert gaps["iou"] <= 1e-4
    # As they stand, the same weights are another model there.
    plain = weights.Loaded(held.state, held.config.model_copy(update={"mlp_residual": "single"}), "meta")
    weights.export(plain, tmp_path / "wrong", "huggingface")
    assert differences(model(DOUBLE), stock(tmp_path / "wrong"))["logits"] > 50 * gaps["logits"]


def prediction(held: weights.Loaded) -> tuple[np.ndarray, float]:
    predictor = Predictor(held.model())
    rng = np.random.default_rng(0)
    predictor.set_image(rng.integers(0, 255, (70, 100), np.uint8))
    found = predictor.predict(box=(10, 10, 60, 50))
    return found.logits, found.score


@pytest.mark.parametrize("config", [SMALL, DOUBLE], ids=["single", "double"])
@pytest.mark.parametrize("form", FORMS)
def test_there_and_back(tmp_path: Path, config: ModelConfig, form: weights.Form) -> None:
    held = loaded(config)
    path = tmp_path / ("weights.pth" if form in ("meta", "ultrasam") else "weights")
    weights.export(held, path, form)
    again = weights.load(path)
    assert again.form == form
    if form == "us43d":
        assert again.config == config
    # Meta's and Hugging Face's forms cannot say "double", UltraSam's cannot say "single".
    says = {"us43d": config.mlp_residual, "ultrasam": "double"}.get(form, "single")
    assert again.config.mlp_residual == says
    if says == config.mlp_residual:
        assert all(torch.equal(again.state[name], value) for name, value in held.state.items())
    one, two = prediction(held), prediction(again)
    assert np.abs(one[0] - two[0]).max() <= (0 if says == config.mlp_residual else 2e-3)
    assert one[1] == pytest.approx(two[1], abs=1e-4)
    assert set(again.state) == set(held.state)


def test_through_all_forms_and_back(tmp_path: Path) -> None:
    held = loaded(DOUBLE)
    for n, form in enumerate(("huggingface", "meta", "us43d", "ultrasam")):
        path = tmp_path / f"{n}.pth"
        weights.export(held, path, form)
        held = weights.load(path)
    first = loaded(DOUBLE).state
    assert held.config.mlp_residual == "double"
    assert all(torch.equal(held.state[name], value) for name, value in first.items())  # halved, doubled: exact


def test_a_safetensors_file_and_a_wrapped_one(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = model(SMALL).state_dict()
    save_file(state, tmp_path / "plain.safetensors")
    assert weights.load(tmp_path / "plain.safetensors").form == "meta"
    torch.save({"model": state, "epoch": 3, "optimizer": {"lr": 1e-4}}, tmp_path / "wrapped.pth")
    held = weights.load(tmp_path / "wrapped.pth")
    assert all(torch.equal(held.state[name], value) for name, value in state.items())


class History:
    """What mmengine keeps beside the weights."""

    def __init__(self) -> None:
        self.values = np.arange(3.0)
        self.last = np.float64(1.5)
        self.read = getattr


def test_what_mmengine_keeps_beside_weights_is_passed_over(tmp_path: Path) -> None:
    weights.export(loaded(DOUBLE), tmp_path / "plain.pth", "ultrasam")
    content = torch.load(tmp_path / "plain.pth", weights_only=True)
    content["message_hub"] = {"log_scalars": {"loss": History()}, "runtime_info": {"iter": 30000}}
    torch.save(content, tmp_path / "full.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "full.pth", weights_only=True)
    held = weights.load(tmp_path / "full.pth")
    assert all(torch.equal(held.state[name], value) for name, value in loaded(DOUBLE).state.items())


def archived(path: Path, pickled: bytes, **members: bytes) -> Path:
    """A PyTorch checkpoint whose pickle is given, compressed as PyTorch never does."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in members.items():
            archive.writestr(f"archive/data/{name}", data)
    return path


#: A tuple nested 60 deep, twice in each level: its hash takes 2 to the power of 60 steps.
NEST = b"K\x01\x85\x94" + b"".join(b"h%c\x86\x94" % n for n in range(60))
#: {"w": a float tensor of the storage "0"}, with its offset, size and stride to be put in.
TENSOR = (
    b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ%btRs."
)


@pytest.mark.parametrize(
    ("pickled", "why"),
    [
        (b"\x80\x04}" + NEST + b"K\x01s.", "has a tuple for a key"),
        (b"\x80\x02Nr\x00\x00\x00\x08.", "holds an object of type NoneType"),
        (TENSOR % b"K\x00J\x00\x00\x00\x7fJ\x00\x00\x00\x7f\x86K\x00K\x00\x86", "claims more than 4 values"),
        (TENSOR % b"K\x00K\x04\x85K\x7f\x85", "storage"),
        (TENSOR % b"J\xff\xff\xff\xffK\x04\x85K\x01\x85", "not an integer below"),
        (TENSOR % b"K\x00(K\x01\x85tK\x01\x85", "not an integer below"),
        (TENSOR % b"K\x00N", "damaged|Error|arguments"),
        (b"\x80\x02]" + b"(" * 1000 + b".", "holds|damaged"),
        (b"\x80\x02(X\x07\x00\x00\x00storageNNtQ.", "storage of unknown kind"),
        (b"", "cut|damaged"),
    ],
)
def test_a_forged_checkpoint_is_one_error(tmp_path: Path, pickled: bytes, why: str) -> None:
    path = archived(tmp_path / "a.pth", pickled, **{"0": bytes(16)})
    with pytest.raises(WeightsError, match=why):
        weights.load(path)


def test_a_checkpoint_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    good = TENSOR % b"K\x00K\x04\x85K\x01\x85"
    path = archived(tmp_path / "a.pth", good, **{"0": bytes(16)}, bomb=bytes(400 << 20))
    with pytest.raises(WeightsError, match="far more than the file has"):
        weights.load(path)
    assert untrusted.read_pickle(archived(tmp_path / "b.pth", good, **{"0": bytes(16)}))["w"].shape == (4,)


@pytest.mark.parametrize(
    "config", ["[]", "7", "[" * 100_000,
               '{"us43d": []}', '{"us43d": {"depth": 1000000000}}', '{"us43d": {"depth": 250}}',
               '{"mask_decoder_config": 3}', '{"mask_decoder_config": {"layer_norm_eps": "x"}}']
)  # fmt: skip
def test_a_configuration_of_another_shape_is_one_error(tmp_path: Path, config: str) -> None:
    weights.export(loaded(SMALL), tmp_path / "w", "us43d")
    (tmp_path / "w" / "config.json").write_text(config)
    with pytest.raises(WeightsError):
        weights.load(tmp_path / "w").model()


class Hostile:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], tuple(self.call[1:])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ((os.system, "touch {}"), "system"),
        ((eval, "__import__('pathlib').Path('{}').touch()"), "eval"),
        ((exec, "open('{}', 'w')"), "exec"),
        ((open, "{}", "w"), "open"),
        ((os.mkdir, "{}"), "mkdir"),
    ],
)
def test_a_file_that_tries_to_run_something_is_refused(tmp_path: Path, call: tuple[Any, ...], named: str) -> None:
    mark = tmp_path / "ran"
    state: dict[str, Any] = dict(model(SMALL).state_dict())
    state["hook"] = Hostile(call[0], *(text.format(mark) for text in call[1:]))
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match=rf"bad\.pth contains code \(\w+\.{named}\).* the file is refused"):
        weights.load(tmp_path / "bad.pth")
    assert not mark.exists()


def test_a_name_of_its_own_module_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Thing: pass\n")
    state = model(SMALL).state_dict()
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    source = zipfile.ZipFile(buffer)
    with zipfile.ZipFile(tmp_path / "odd.pth", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                # Before the end of the dict: key "extra", an instance of evil_module.Thing.
                data = data[:-1] + b"X\x05\x00\x00\x00extracevil_module\nThing\n)\x81s."
            target.writestr(name, data)
    monkeypatch.syspath_prepend(tmp_path)
    held = weights.load(tmp_path / "odd.pth")
    assert not (tmp_path / "ran").exists()
    assert set(held.state) == set(state)


def damaged(path: Path, change: str) -> Path:
    state: dict[str, Tensor] = dict(model(SMALL).state_dict())
    if change == "missing":
        del state["mask_decoder.iou_token.weight"]
    elif change == "unexpected":
        state["image_encoder.extra"] = torch.zeros(3)
    elif change == "of another shape":
        state["mask_decoder.iou_token.weight"] = torch.zeros(1, 7)
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("missing", "1 tensors are missing: mask_decoder.iou_token.weight"),
        ("unexpected", "1 tensors are unexpected: image_encoder.extra"),
        (
            "of another shape",
            r"1 tensors are of another shape: mask_decoder.iou_token.weight is \(1, 7\), should be \(1, 32\)",
        ),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, change: str, why: str) -> None:
    with pytest.raises(WeightsError, match=why):
        weights.load(damaged(tmp_path / "w.pth", change)).model()


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    def refuses(data: bytes, why: str, name: str = "w.pth") -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match=why):
            weights.load(tmp_path / name)

    refuses(b"<html>Sign in</html>", "not a PyTorch checkpoint of 1.6 or later, or is truncated")
    refuses(b"", "not a PyTorch checkpoint of 1.6 or later, or is truncated")
    refuses(b"\x00" * 100, "not a readable safetensors file", "w.safetensors")
    weights.export(loaded(SMALL), tmp_path / "whole.pth", "meta")
    whole = (tmp_path / "whole.pth").read_bytes()
    refuses(whole[: len(whole) // 2], "or is truncated")
    old = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, old, _use_new_zipfile_serialization=False)
    refuses(old.getvalue(), "not a PyTorch checkpoint of 1.6 or later")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="does not contain tensors"):
        weights.load(tmp_path / "none.pth")
    torch.save({"conv.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"1 tensors of an unknown model, such as conv\.weight"):
        weights.load(tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="does not exist"):
        weights.load(tmp_path / "absent.pth")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match=r"config\.json is missing or unreadable"):
        weights.load(tmp_path / "folder")


def test_a_configuration_of_another_version(tmp_path: Path) -> None:
    weights.save(model(SMALL), tmp_path / "w")
    config = json.loads((tmp_path / "w" / "config.json").read_text())
    config["us43d"]["mlp_residual"] = "triple"
    (tmp_path / "w" / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="is not a valid model configuration of this version: 1 faults"):
        weights.load(tmp_path / "w")


def test_a_prediction_does_not_import_the_compiler() -> None:
    """torch._dynamo and SymPy would be a second of a cold start; the meta device imports them to fill a tensor."""
    code = (
        "import sys, numpy as np\n"
        "from us43d.model import weights\n"
        "from us43d.model.predictor import Predictor\n"
        "predictor = Predictor.from_weights(weights.shipped())\n"
        "predictor.set_image(np.zeros((60, 80), np.uint8))\n"
        "predictor.predict(box=(10, 10, 40, 40))\n"
        "print(sorted({'torch._dynamo', 'sympy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------------ ViT of ImageNet


def imagenet_vit(folder: Path, mean: float = 0.4, deviation: float = 0.3) -> Any:
    """A ViT of transformers with random weights, in its own folder."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'us43d[dev]'")
    torch.manual_seed(0)
    settings = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=128, image_size=64, patch_size=16,
        layer_norm_eps=1e-6, attn_implementation="eager",
    )  # fmt: skip
    vit = transformers.ViTModel(settings).eval()
    for value in vit.parameters():
        torch.nn.init.normal_(value, std=0.2)
    vit.save_pretrained(folder)
    scale = {"image_mean": [mean, 0.5, 0.6], "image_std": [deviation, 0.2, 0.1]}
    (folder / weights.PREPROCESSOR).write_text(json.dumps(scale))
    return vit


def as_mmpretrain(vit: Any) -> dict[str, Tensor]:
    """The same tensors with mmpretrain's names."""
    raw = {f"backbone.{name}": value for name, value in vit.state_dict().items() if "pooler" not in name}
    pairs = (("embeddings.patch_embeddings.", "patch_embed."), ("embeddings.position_embeddings", "pos_embed"),
             ("embeddings.cls_token", "cls_token"), ("layernorm_before", "ln1"), ("layernorm_after", "ln2"),
             ("attention.o_proj", "attn.proj"), ("mlp.fc1", "ffn.layers.0.0"), ("mlp.fc2", "ffn.layers.1"))  # fmt: skip
    for old, new in pairs:
        raw = {name.replace(old, new): value for name, value in raw.items()}
    for name in [name for name in raw if ".q_proj." in name]:
        q, k, v = (raw.pop(name.replace("q_proj", f"{letter}_proj")) for letter in "qkv")
        raw[name.replace("attention.q_proj", "attn.qkv")] = torch.cat([q, k, v])
    return raw


@pytest.mark.parametrize("form", ["transformers", "mmpretrain"])
def test_an_encoder_starts_from_a_vit_of_imagenet(form: str, tmp_path: Path) -> None:
    """Patches, positions and blocks compute what the ViT computes on patches without its class token."""
    vit = imagenet_vit(tmp_path / "vit")
    mean, deviation = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.3, 0.2, 0.1])
    place = tmp_path / "vit"
    if form == "mmpretrain":
        mean, deviation = torch.tensor(MEAN) / 255, torch.tensor(STD) / 255
        place = tmp_path / "vit.pth"
        torch.save({"state_dict": as_mmpretrain(vit)}, place)
    read = weights.load(place)
    assert (read.form, read.config.embed_dim, read.config.depth, read.config.patch_size) == ("vit", 32, 3, 16)
    assert form == "mmpretrain" or read.config.heads == 2
    config = SMALL.model_copy(update={"image_size": 64, "global_blocks": (0, 1, 2)})
    made = UltraSam.random(config, 5)
    own = {name: value.clone() for name, value in made.state_dict().items()}
    weights.fit(made, weights.starting(read, made))
    for name, value in made.state_dict().items():
        kept = "blocks" not in name and "patch_embed" not in name and "pos_embed" not in name
        assert torch.equal(value, own[name]) == (kept or "rel_pos" in name), name
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    encoder = made.eval().image_encoder
    with torch.inference_mode():
        ours = encoder.patch_embed(
            (pixels * 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        )
        ours = ours + encoder.pos_embed
        for block in encoder.blocks:
            ours = block(ours)
        theirs = vit.embeddings((pixels - mean[:, None, None]) / deviation[:, None, None])[:, 1:]
        for layer in vit.layers:
            theirs = layer(theirs)
    assert torch.allclose(ours.flatten(1, 2), theirs, atol=1e-4)


def test_positions_of_a_vit_are_resampled_and_other_shapes_refused(tmp_path: Path) -> None:
    imagenet_vit(tmp_path / "vit")
    read = weights.load(tmp_path / "vit")
    larger = UltraSam.random(SMALL, 0)  # a grid of 8 × 8 where the ViT has 4 × 4
    started = weights.starting(read, larger)["image_encoder.pos_embed"]
    assert started.shape == (1, 8, 8, 32)
    means = started.view(4, 2, 4, 2, 32).mean((1, 3))
    assert (means - read.state["image_encoder.pos_embed"][0]).abs().mean() < 0.1
    wider = UltraSam.random(SMALL.model_copy(update={"embed_dim": 64}), 0)
    with pytest.raises(WeightsError, match="of another shape"):
        weights.fit(wider, weights.starting(read, wider))
    with pytest.raises(WeightsError, match="an image encoder alone"):
        Predictor.from_weights(tmp_path / "vit")
    with pytest.raises(UsageError, match="an image encoder alone"):
        weights.export(read, tmp_path / "out", "us43d")
    assert not (tmp_path / "out").exists()
    raw = as_mmpretrain(imagenet_vit(tmp_path / "vit"))
    del raw["backbone.patch_embed.projection.bias"]
    torch.save(raw, tmp_path / "damaged.pth")
    with pytest.raises(WeightsError, match="not a complete ViT"):
        weights.load(tmp_path / "damaged.pth")
