"""Masks with errors for clicks to correct, and what training makes of them."""

import numpy as np
import pytest
import torch

from us43d.errors import ConfigError
from us43d.harmonize.corpus import Corpus
from us43d.model import look
from us43d.model.config import PRESETS
from us43d.model.network import UPPER_LEFT, UltraSam
from us43d.train import losses, mistakes
from us43d.train.config import PRESETS as RUNS
from us43d.train.config import TrainConfig, read
from us43d.train.data import Batch, Draws, collate
from us43d.train.losses import Objective

MODEL = PRESETS["nano"].model_copy(update={"image_size": 64, "look_size": 32, "widths": (8, 8, 16, 16, 24)})


def config(**changes: object) -> TrainConfig:
    settings = {"batch": 2, "micro_batch": 2, "precision": "float32", "balance": "image", "clicks": 3} | changes
    return read(RUNS["nano"], model=MODEL.model_dump(), **settings)


def drawn(corpus: Corpus, count: int = 40, **changes: object) -> Batch:
    return collate([Draws(corpus, config(**changes)).draw(place) for place in range(count)])  # type: ignore[return-value]


def test_every_kind_of_error_is_drawn() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:120, :160]
    mask = (x - 60) ** 2 + (y - 60) ** 2 < 20**2
    beside = (x - 100) ** 2 + (y - 60) ** 2 < 21**2
    beside &= ~mask
    pixels = np.where(mask | beside, 40, 160).astype(np.uint8)
    more = part = neighbour = other = 0
    for _ in range(200):
        wrong = mistakes.mistaken(pixels, mask, rng)
        assert wrong.shape == mask.shape
        assert wrong.any()
        added, lost = wrong & ~mask, mask & ~wrong
        assert not (added.any() and lost.any()), "an error of both directions"
        neighbour += (added & beside).sum() > 0.9 * beside.sum() and (added & ~beside).sum() < 0.3 * beside.sum()
        more, part, other = more + bool(added.any()), part + bool(lost.any()), other + np.array_equal(wrong, mask)
    assert min(more, part) > 40
    assert neighbour > 25, "the dark structure beside the object is taken for a part of it"
    assert other < 20
    coloured = np.repeat(pixels[..., None], 3, 2)
    same = [mistakes.mistaken(image, mask, np.random.default_rng(n)) for n in range(9) for image in (pixels, coloured)]
    assert all(np.array_equal(one, again) for one, again in zip(same[::2], same[1::2], strict=True))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_small_masks_and_masks_of_the_whole_image_have_one_too(size: int) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (size, size + 3)).astype(np.uint8)
    tiny = np.zeros(pixels.shape, bool)
    tiny[-1, -1] = True
    for mask in (tiny, np.ones(pixels.shape, bool)):
        assert all(mistakes.mistaken(pixels, mask, rng).any() for _ in range(30))


def test_some_prompts_with_clicks_have_one_and_none_with_a_box(blobs: Corpus) -> None:
    batch = drawn(blobs, mistakes=0.5)
    given = batch.mistaken.amax((1, 2)) > 0
    boxed = (batch.labels == UPPER_LEFT).any(1)
    assert not given[(batch.clicks == 0) | boxed].any()
    share = float(given[(batch.clicks > 0) & ~boxed].float().mean())
    assert 0.2 < share < 0.8
    assert not drawn(blobs).mistaken.any()


def test_a_draw_without_one_is_as_before(blobs: Corpus) -> None:
    """The recipe of weights that ship does not change with the setting left at 0."""
    plain, none = drawn(blobs, 6), drawn(blobs, 6, mistakes=0)
    assert all(torch.equal(one, other) for one, other in zip(plain, none, strict=True))


def test_half_of_the_windows_show_the_error(blobs: Corpus) -> None:
    one = {"instances": 1, "repeats": 1, "structure_prompts": 0}
    batch, before = drawn(blobs, 90, mistakes=1.0, **one), drawn(blobs, 90, **one)
    given = batch.mistaken.amax((1, 2)) > 0
    truth, covered = (one.crop_targets.flatten(1).float().mean(1) / 255 for one in (before, batch))
    assert torch.equal(covered[~given], truth[~given])
    wider = covered[given] < 0.9 * truth[given]
    assert 0.1 < float(wider.float().mean()) < 0.7
    assert (batch.crop_targets[given].amax((1, 2)) > 0).all(), "the object itself is always in the window"


def test_clicks_and_the_fed_mask_are_those_of_the_error(blobs: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(mistakes=1.0, box_share=0.0, structure_prompts=0, extra_points=0.0)
    batch: Batch = collate([Draws(blobs, settings).draw(place) for place in range(12)])  # type: ignore[assignment]
    given = batch.mistaken[batch.clicks > 0].amax((1, 2)) > 0
    assert given.any()
    corrected, fed = [], []
    clicked, paste = Objective._clicked, look.paste

    def seen(self: Objective, chosen: Batch, logits: torch.Tensor, *rest: torch.Tensor) -> object:
        corrected.append(logits)
        return clicked(self, chosen, logits, *rest)

    def pasted(logits: torch.Tensor, *rest: object) -> torch.Tensor:
        fed.append(logits)
        return paste(logits, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(losses.Objective, "_clicked", seen)
    monkeypatch.setattr(losses.look, "paste", pasted)
    _, sums = Objective(UltraSam.random(settings.model, 0), settings)(batch)
    assert torch.isfinite(sums).all()
    wrong = batch.mistaken[batch.clicks > 0][given]
    for logits in (corrected[0][given], fed[0][given]):
        assert torch.equal(logits > 0, wrong > 127)
        assert logits.abs().max() == losses.SURE


def test_the_setting_needs_clicks_and_a_second_look() -> None:
    with pytest.raises(ConfigError, match="mistakes need clicks"):
        config(clicks=0, mistakes=0.5)
    with pytest.raises(ConfigError, match="mistakes need clicks"):
        read(RUNS["ultrasam-vitb-clicks"], mistakes=0.5)
