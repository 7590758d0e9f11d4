"""Draws: determined by their place alone, geometry that agrees with prediction, balance, what cannot be used."""

import json
import math
import pickle
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from us43d.coco import own as coco
from us43d.errors import TrainError, UnknownName
from us43d.harmonize.corpus import Corpus
from us43d.model import geometry
from us43d.train.config import TrainConfig, read
from us43d.train.data import Draws, batches, collate, normalise
from us43d.train.dataset import CorpusDataset
from us43d.train.order import Order, eligible


def _same(one: tuple, two: tuple) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.fixture
def plain(small: TrainConfig) -> TrainConfig:
    """Without augmentation."""
    return small.model_copy(update={"zoom": 0.0, "contrast": 0.0, "flip": 0.0, "box_jitter": 0.0})


def test_a_draw_depends_on_its_place_alone(blobs: Corpus, small: TrainConfig) -> None:
    draws = Draws(blobs, small)
    first = [draws.draw(n) for n in range(6)]
    assert all(_same(draws.draw(n), first[n]) for n in (3, 0, 5))
    assert _same(pickle.loads(pickle.dumps(draws)).draw(4), first[4])  # noqa: S301  (our own bytes)
    other = Draws(blobs, small.model_copy(update={"seed": 1}))
    assert not any(_same(other.draw(n), first[n]) for n in range(6))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_workers(blobs: Corpus, small: TrainConfig, workers: int) -> None:
    config = small.model_copy(update={"steps": 5})
    alone = list(batches(Draws(blobs, config), 0, 0, 1))
    several = batches(Draws(blobs, config.model_copy(update={"workers": workers})), 2, 0, 1)
    assert all(_same(a, b) for a, b in zip(alone[2:], several, strict=True))


def test_processes_share_a_step(blobs: Corpus, small: TrainConfig) -> None:
    config = small.model_copy(update={"micro_batch": 2, "steps": 3})
    whole = list(batches(Draws(blobs, config), 0, 0, 1))
    shared = [list(batches(Draws(blobs, config), 0, rank, 2)) for rank in range(2)]
    assert all(_same(a, b) for a, b in zip(whole, [each for step in zip(*shared, strict=True) for each in step],
                                           strict=True))  # fmt: skip


def test_the_picture_is_what_prediction_sees(blobs: Corpus, plain: TrainConfig) -> None:
    draws = Draws(blobs, plain)
    side = plain.model.image_size
    batch = collate([draws[n] for n in range(4)])
    found = normalise(batch.images, batch.inner)
    for n in range(4):
        shown = blobs.picture(draws.order(n)[1])
        assert torch.allclose(found[n], geometry.normalised(shown, side), atol=1e-5)


def test_prompts_and_targets_are_where_the_mask_is(blobs: Corpus, plain: TrainConfig) -> None:
    draws = Draws(blobs, plain)
    side, low = plain.model.image_size, plain.model.mask_size
    for place in range(12):
        draw = draws.draw(place)
        shape = blobs.picture(draws.order(place)[1]).shape[:2]
        size = geometry.fitted(shape, side)
        scale = size[1] / shape[1], size[0] / shape[0]
        assert draw.inner.tolist() == list(size)
        own = [blobs.mask(n) for n in blobs.of(draws.order(place)[1])]
        for points, labels, of in zip(draw.points, draw.labels, draw.target_of.tolist(), strict=True):
            target = draw.targets[of].numpy()
            # Which of the image's masks this is: the one whose own reduction it is.
            truth = max(own, key=lambda m: -np.abs(_reduced(m, size, side, low) - target.astype(float)).mean())
            assert np.abs(_reduced(truth, size, side, low) - target.astype(float)).mean() < 6
            if labels.tolist() == [2, 3]:
                ys, xs = np.nonzero(truth)
                exact = torch.tensor([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], dtype=torch.float64)
                assert torch.allclose(points, geometry.box_prompts(exact, scale)[0][0], atol=1e-4)
            else:
                assert labels.tolist() == [1, -1]
                x, y = ((points[0] - 0.5) / torch.tensor(scale)).tolist()
                assert truth[round(y), round(x)]


def _reduced(mask: np.ndarray, size: tuple[int, int], side: int, low: int) -> np.ndarray:
    """Share of each low-resolution pixel that a mask covers, by counting on a fine grid."""
    y, x = (np.arange(8 * low) + 0.5) * side / (8 * low), (np.arange(8 * low) + 0.5) * side / (8 * low)
    rows = np.floor(y * mask.shape[0] / size[0]).astype(int)
    columns = np.floor(x * mask.shape[1] / size[1]).astype(int)
    inside = np.ix_(rows.clip(max=mask.shape[0] - 1), columns.clip(max=mask.shape[1] - 1))
    fine = mask[inside] & (y < size[0])[:, None] & (x < size[1])
    return 255 * fine.reshape(low, 8, low, 8).mean((1, 3))


@pytest.mark.parametrize("place", range(20))
def test_augmented_prompts_stay_in_their_targets(blobs: Corpus, small: TrainConfig, place: int) -> None:
    """After flip, zoom and shift a point still lies on its target, and a box about it."""
    draw = Draws(blobs, small.model_copy(update={"zoom": 0.7, "repeats": 4})).draw(place)
    cell = small.model.image_size / small.model.mask_size
    for points, labels, of in zip(draw.points, draw.labels, draw.target_of.tolist(), strict=True):
        target = draw.targets[of].numpy() > 0
        ys, xs = np.nonzero(target)
        if labels.tolist() == [2, 3]:
            x0, y0, x1, y1 = (points.numpy() / cell).ravel()
            room = 1.5 + 0.05 * max(x1 - x0, y1 - y0)
            assert np.abs([x0 - xs.min(), y0 - ys.min(), x1 - xs.max() - 1, y1 - ys.max() - 1]).max() < room
        else:
            x, y = (points[0].numpy() / cell).astype(int).clip(0, target.shape[0] - 1)
            assert target[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any()


def test_every_image_once_before_any_again(blobs: Corpus, small: TrainConfig) -> None:
    order = Order(blobs, small, eligible(blobs, small, ("train",)))
    count = len(order.classes[0])
    laps = [[order(lap * count + n)[1] for n in range(count)] for lap in range(3)]
    assert all(sorted(lap) == sorted(order.classes[0].tolist()) for lap in laps)
    assert laps[0] != laps[1]


def test_balance_draws_classes_evenly(blobs: Corpus, small: TrainConfig) -> None:
    config = small.model_copy(update={"balance": "structure"})
    draws = Draws(blobs, config)
    drawn = [draws.order(n) for n in range(60)]
    assert Counter(category for category, _ in drawn) == {1: 30, 2: 30}
    for category, image in drawn:
        assert category in {int(blobs.annotations["category"][n]) for n in blobs.of(image)}
    # The structure a draw is for is drawn although only one instance is.
    one = Draws(blobs, config.model_copy(update={"instances": 1, "zoom": 0.0, "flip": 0.0}))
    side, low = config.model.image_size, config.model.mask_size
    for place in range(8):
        category, image = one.order(place)
        (row,) = (n for n in blobs.of(image) if blobs.annotations["category"][n] == category)
        size = tuple(one.draw(place).inner.tolist())
        assert np.abs(_reduced(blobs.mask(row), size, side, low) - one.draw(place).targets[0].numpy()).mean() < 6


def test_images_of_rare_sizes_are_drawn_more_often(blobs: Corpus, small: TrainConfig) -> None:
    """At most as often as asked, and so often that their octave comes closer to the most frequent one."""
    rows = eligible(blobs, small, ("train",))
    of, area = blobs.annotations["image"][rows], blobs.annotations["area"][rows]
    images = blobs.images
    octave = {
        int(n): math.floor(math.log2(area[of == n].max() / (int(images["height"][n]) * int(images["width"][n]))))
        for n in np.unique(of)
    }
    counts = Counter(octave.values())
    expected = {n: min(3, max(1, round(max(counts.values()) / counts[size]))) for n, size in octave.items()}
    assert len(set(expected.values())) > 1
    order = Order(blobs, read(small, balance="image", size_repeats=3), rows)
    lap = Counter(order(place)[1] for place in range(sum(expected.values())))
    assert lap == expected


@pytest.mark.parametrize(("balance", "even"), [("source", 3), ("organ", 2), ("image", 1)])
def test_balance_between_sources_and_organs(
    blobs: Corpus, small: TrainConfig, tmp_path: Path, balance: str, even: int
) -> None:
    """Three sources of very different sizes, two of them of one organ."""
    shutil.copytree(blobs.path, tmp_path / "corpus")
    images = np.array(blobs.images)
    images["source"] = [0, 1, 1, *([2] * (len(images) - 3))]
    images["split"] = 0
    np.save(tmp_path / "corpus" / "images.npy", images)
    (source,) = blobs.facts["sources"]
    organs = {"a": "breast", "b": "thyroid", "c": "thyroid"}
    facts = blobs.facts | {"sources": [source | {"name": name, "organ": organ} for name, organ in organs.items()]}
    (tmp_path / "corpus" / "corpus.json").write_text(json.dumps(facts))
    corpus = Corpus.open(tmp_path / "corpus", blobs.home)
    config = small.model_copy(update={"balance": balance})
    order = Order(corpus, config, eligible(corpus, config, ("train",)))
    count = 2 * 3 * len(images)
    drawn = Counter(images["source"][order(n)[1]] for n in range(count))
    sizes = Counter(images["source"].tolist())
    share = {"source": dict.fromkeys(range(3), 1 / 3),
             "organ": {0: 1 / 2} | {n: sizes[n] / (sizes[1] + sizes[2]) / 2 for n in (1, 2)},
             "image": {n: sizes[n] / len(images) for n in range(3)}}[balance]  # fmt: skip
    assert len(order.classes) == even
    for n in range(3):
        assert drawn[n] == pytest.approx(share[n] * count, abs=len(images) / 4)


def test_so_many_instances_at_most(blobs: Corpus, small: TrainConfig) -> None:
    for most in (1, 2):
        draws = Draws(blobs, small.model_copy(update={"instances": most, "zoom": 0.0}))
        counts = {len(draws.draw(n).targets) for n in range(12)}
        assert counts == ({1} if most == 1 else {1, 2})


def test_chunks_of_one_aspect(blobs: Corpus, small: TrainConfig) -> None:
    config = small.model_copy(update={"by_aspect": True, "micro_batch": 2, "batch": 2})
    order = Order(blobs, config, eligible(blobs, config, ("train",)))
    count = len(order.classes[0]) - len(order.classes[0]) % 2
    lap = [order(n)[1] for n in range(count)]
    assert len(set(lap)) == count
    wide = (blobs.images["width"] > blobs.images["height"])[lap].reshape(-1, 2)
    assert (wide[:, 0] == wide[:, 1])[:-1].all()


def test_small_instances_and_other_splits_are_left_out(blobs: Corpus, small: TrainConfig) -> None:
    every = eligible(blobs, small, ("train",))
    assert set(blobs.images["split"][blobs.annotations["image"][every]]) == {0}
    area = int(np.median(blobs.annotations["area"][every]))
    fewer = eligible(blobs, small.model_copy(update={"min_area": area}), ("train",))
    assert set(fewer) == {n for n in every if blobs.annotations["area"][n] >= area}
    with pytest.raises(TrainError, match="no annotation in train with min_area 1000000"):
        eligible(blobs, small.model_copy(update={"min_area": 1_000_000}), ("train",))
    with pytest.raises(UnknownName, match="Unknown source 'BUSI'"):
        eligible(blobs, small.model_copy(update={"sources": ("BUSI",)}), ("train",))
    assert set(eligible(blobs, small.model_copy(update={"sources": ("DATA",)}), ("train",))) == set(every)


@pytest.fixture
def broken(blobs: Corpus, tmp_path: Path) -> Corpus:
    """The corpus with copies of the images, to be damaged."""
    shutil.copytree(blobs.home, tmp_path / "images")
    return coco.read(tmp_path / "images" / "data.json", tmp_path / "corpus")


def test_a_corrupt_image_is_named(broken: Corpus, small: TrainConfig) -> None:
    draws = Draws(broken, small)
    path = broken.file(draws.order(5)[1])
    path.write_bytes(path.read_bytes()[:200])
    for workers in (0, 1):
        draws.config = small.model_copy(update={"workers": workers})
        with pytest.raises(TrainError, match=path.name):
            list(batches(draws, 0, 0, 1))


def test_an_exchanged_image_is_named(broken: Corpus, small: TrainConfig) -> None:
    draws = Draws(broken, small)
    path = broken.file(draws.order(0)[1])
    cv2.imwrite(str(path), np.zeros((30, 20), np.uint8))
    with pytest.raises(TrainError, match=f"{path.stem}.* has 20 × 30 pixels"):
        draws.draw(0)


def test_a_plain_dataset(blobs: Corpus) -> None:
    dataset = CorpusDataset(blobs, "train")
    assert len(dataset) == int((blobs.images["split"] == 0).sum())
    item = dataset[0]
    height, width = item["image"].shape[1:]
    assert item["image"].dtype == torch.uint8
    assert item["masks"].shape == (len(item["labels"]), height, width)
    assert item["area"].tolist() == item["masks"].sum((1, 2)).tolist()
    for mask, box in zip(item["masks"], item["boxes"].tolist(), strict=True):
        ys, xs = torch.nonzero(mask, as_tuple=True)
        assert box == [float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)]
    assert Path(item["path"]).name == item["key"]
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=1)
    assert [each["id"] for each in loader] == [dataset[n]["id"] for n in range(len(dataset))]
    with pytest.raises(UnknownName, match="Unknown split 'training'"):
        CorpusDataset(blobs, "training")
