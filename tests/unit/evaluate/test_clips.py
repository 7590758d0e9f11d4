"""Clips of specimens, followed by a model that knows the truth and by one that finds nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from us43d.errors import UnknownName, UsageError
from us43d.evaluate.clips import clips, over_time, tables
from us43d.harmonize.corpus import Corpus
from us43d.harmonize.merge import merge
from us43d.model.layers import Features
from us43d.model.predictor import Encoded, Prediction, Predictor


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, built: Callable) -> Corpus:
    home, paths = built(tmp_path_factory.mktemp("clips"), "camus", "echonet_dynamic")
    return merge(paths, home.root, "test")


class Oracle(Predictor):
    """Answers with the reference mask that overlaps the box most; with `blind` with nothing."""

    def __init__(self, corpus: Corpus, blind: bool = False) -> None:
        self.device, self.blind = "cpu", blind
        self.pictures = [corpus.picture(n) for n in range(len(corpus))]
        self.masks = [[corpus.mask(place) for place in corpus.of(n)] for n in range(len(corpus))]

    def encode(self, picture: np.ndarray) -> Encoded:
        shape = (picture.shape[0], picture.shape[1])
        return Encoded(Features(torch.zeros(1)), shape, shape, picture)

    def predict(self, *, box, **rest):
        points = torch.tensor([[box[:2], box[2:]]]) + 0.5
        return self.segment(self.encoded, points, torch.tensor([[2, 3]]))[0]

    def segment(self, encoded, points, labels, *, refine=1, postprocess="sharp", former=None):
        at = next(n for n, picture in enumerate(self.pictures) if np.array_equal(picture, encoded.pixels))
        found = []
        for (x0, y0), (x1, y1) in (points.numpy() - 0.5).tolist():
            box = np.zeros(encoded.shape, bool)
            box[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = True
            best = max(self.masks[at], key=lambda mask: (mask & box).sum() / (mask | box).sum())
            found.append(Prediction(np.zeros_like(best) if self.blind else best, 0.9, np.zeros((1, 1), np.float32)))
        return found


def test_clips_are_found_in_the_order_of_their_frames(corpus: Corpus) -> None:
    found = clips(corpus, "train")
    assert {source for source, *_ in found} == {"CAMUS", "EchoNet-Dynamic"}
    for those in found.values():
        frames = [int(corpus.key(image).rpartition("#")[2]) for image, _ in those]
        assert frames == sorted(frames)
        assert len(frames) == 2
    assert {source for source, *_ in clips(corpus, "train", ["CAMUS"])} == {"CAMUS"}


def test_following_the_truth(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("us43d.model.propagate.UNRELIABLE", 0.0)  # every frame is the oracle's
    rows, fractions = over_time(Oracle(corpus), corpus, split="train")
    heart = rows[rows["source"] == "EchoNet-Dynamic"]
    first = heart[heart["step"] == 0]
    assert (first["dice"] == 1).all()
    assert (first["still"] == 1).all()
    later = heart[(heart["step"] == 1) & ~heart["lost"]]
    assert (later["dice"] == 1).all()
    # The ventricle contracts, so a mask kept unmoved does not fit.
    assert (heart[heart["step"] == 1]["still"] < 0.95).all()
    whole = set(later["clip"])
    known = fractions[fractions["clip"].isin(whole)]
    assert len(known)
    assert np.allclose(known["measured"], known["truth"])
    assert np.abs(known["measured"] - known["table"]).max() < 2
    shown = tables(rows, fractions)
    assert [head for head, *_ in shown] == ["Dice after the first frame", "Ejection fraction"]
    assert all(len(row) == len(heads) for _, heads, cells in shown for row in cells)


def test_following_nothing(corpus: Corpus) -> None:
    rows, fractions = over_time(Oracle(corpus, blind=True), corpus, split="train", sources=["EchoNet-Dynamic"])
    assert (rows["dice"] == 0).all()
    assert rows[rows["step"] > 0]["lost"].all()
    assert fractions["measured"].isna().all()
    with pytest.raises(UsageError, match="No clip"):
        over_time(Oracle(corpus), corpus, split="excluded", sources=["CAMUS"])
    with pytest.raises(UnknownName, match="HC18"):
        over_time(Oracle(corpus), corpus, sources=["HC18"])


def test_following_the_motion(corpus: Corpus) -> None:
    rows, _ = over_time(Oracle(corpus), corpus, split="train")
    heart = rows[(rows["source"] == "EchoNet-Dynamic") & (rows["step"] == 1)]
    assert heart["dice"].min() > 0.95
    assert (heart["dice"] > heart["still"]).all()
