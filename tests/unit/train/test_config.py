"""Settings that contradict one another are refused in one sentence that names them."""

from pathlib import Path
from typing import Any

import pytest

from us43d.errors import ConfigError, UnknownName
from us43d.train.config import PRESETS, read


@pytest.mark.parametrize(
    ("preset", "values", "fault"),
    [
        ("tiny", {"steps": 10, "warm_up": 10}, "warm_up 10 must be less than steps 10"),
        ("tiny", {"milestones": (8, 4)}, r"milestones \(8, 4\) are not in ascending order"),
        ("tiny", {"splits": ("train", "exam")}, r"unknown splits \['exam'\]: use train, val or test"),
        ("tiny", {"batch": 5, "micro_batch": 2}, "batch 5 is not a multiple of micro_batch 2"),
        ("tiny", {"scale": (2.0, 0.5)}, r"scale \(2.0, 0.5\) is not a range"),
        ("nano", {"lora": 4}, "lora needs a model with a vit encoder"),
        ("tiny", {"network": "unet"}, "the network unet belongs to the tasks classify and semantic, not to promptable"),
        ("tiny", {"network": "dynunet", "task": "classify"}, "the network dynunet belongs to the task semantic"),
        ("tiny", {"network": "unet", "task": "semantic", "lora": 4}, "the network unet cannot be combined with lora"),
        ("tiny", {"context": 0.2}, "context belongs to the task classify-prompt, not to promptable"),
        ("tiny", {"structure_prompts": 2}, "structure_prompts need a model with structures"),
        ("nano", {"mosaic": 0.5}, "mosaic cannot be combined with a second look"),
        ("tiny", {"clicks": 2}, "clicks need a model with structures"),
        ("tiny", {"by_aspect": True, "balance": "organ"}, "by_aspect needs the balance image"),
        ("tiny", {"head": {"width": 64, "heads": 5}}, "head: width 64 is not a multiple of heads 5"),
        ("tiny", {"model": {"image_size": 100}}, "model: image_size 100 is not a multiple of patch_size 8"),
        ("tiny", {"model": {"prompt_dim": 36}}, "model: prompt_dim 36 is not divisible into 4 heads"),
        ("tiny", {"model": {"global_blocks": (1, 9)}}, r"model: global_blocks \[9\] are outside the 4 blocks"),
        ("nano", {"model": {"widths": (8, 16)}}, "model: a conv encoder needs 5 values of widths and of blocks"),
        ("nano", {"model": {"patch_size": 32}}, "model: a conv encoder needs patch_size 16"),
        ("nano", {"model": {"look_size": 99}}, "model: look_size 99 cannot be halved"),
    ],
)  # fmt: skip
def test_settings_that_contradict_one_another(preset: str, values: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=f"Invalid training configuration: {fault}"):
        read(PRESETS[preset], **values)


def test_a_file_of_settings(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('preset = "nano"\nsteps = 700\n[model]\nmasks = 4\n')
    settings = read(PRESETS["tiny"], tmp_path / "a.toml", batch=12)
    assert (settings.name, settings.steps, settings.batch, settings.model.masks) == ("nano", 700, 12, 4)
    assert settings.model.widths == PRESETS["nano"].model.widths
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"a.json does not contain a table of settings"):
        read(PRESETS["tiny"], tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"steps": 1, "steps": 2}')
    with pytest.raises(ConfigError, match="it has the key 'steps' twice"):
        read(PRESETS["tiny"], tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ConfigError, match=r"a.json is not a readable TOML or JSON file"):
        read(PRESETS["tiny"], tmp_path / "a.json")
    with pytest.raises(UnknownName, match="Unknown model preset 'huge'"):
        read(PRESETS["tiny"], model="huge")


def test_an_unknown_setting_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"learning_rat: unknown setting \(did you mean learning_rate\?\)"):
        read(PRESETS["small"], learning_rat=1)
    with pytest.raises(ConfigError, match=r"steps: Input should be a valid integer.*: 'many'"):
        read(PRESETS["small"], steps="many")
    with pytest.raises(ConfigError, match=r"zzz: unknown setting\."):
        read(PRESETS["small"], zzz=1)
