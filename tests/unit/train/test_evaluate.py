"""Evaluation on a specimen's corpus: perfect masks, the ellipse, clicks, what is left out, pages, comparisons."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from us43d import report
from us43d.coco import own
from us43d.errors import TrainError, UnknownName, UsageError
from us43d.evaluate.protocols import evaluate
from us43d.evaluate.results import BASELINE, Evaluation, compare, compared
from us43d.harmonize.corpus import SPECK, Corpus
from us43d.harmonize.merge import merge
from us43d.model.network import PRESETS, Features, UltraSam
from us43d.model.predictor import Encoded, Prediction, Predictor
from us43d.model.prompts import click
from us43d.train import journal


class Oracle(Predictor):
    """Knows the truth: finds the instance a prompt belongs to. wrong: pixels its masks are shifted by."""

    def __init__(self, corpus: Corpus, *, wrong: int = 0, learns: bool = False) -> None:
        self.corpus, self.device, self.wrong, self.learns = corpus, "cpu", wrong, learns
        self.images: list[int] = []
        self.batches: list[tuple[int, int]] = []

    def encode(self, picture: np.ndarray) -> Encoded:
        same = [n for n in range(len(self.corpus)) if n not in self.images and self._is(n, picture)]
        self.images.append(same[0])
        return Encoded(Features(torch.zeros(1)), picture.shape[:2], picture.shape[:2], picture)

    def _is(self, image: int, picture: np.ndarray) -> bool:
        found = cv2.imread(str(self.corpus.file(image)), cv2.IMREAD_UNCHANGED)
        return found.shape == picture.shape and bool((found[..., ::-1] == picture).all() if found.ndim == 3 else
                                                     (found == picture).all())  # fmt: skip

    def segment(self, encoded, points, labels, *, refine=1, postprocess="sharp", former=None):
        self.batches.append((len(points), labels.shape[1]))
        masks = [self.corpus.mask(row) for row in self.corpus.of(self.images[-1])]
        found = []
        for xy, kinds in zip(points.numpy() - 0.5, labels.numpy(), strict=True):
            if (kinds == 2).any():
                at = xy[kinds == 2][0], xy[kinds == 3][0]
                mask = max(masks, key=lambda m: -sum(abs(a - b).sum() for a, b in zip(at, corners(m), strict=True)))
            else:
                mask = min(masks, key=lambda m: np.hypot(*(np.argwhere(m)[:, ::-1] - xy[0]).T).min())
            shift = 0 if self.learns and former is not None else self.wrong
            found.append(Prediction(np.roll(mask, shift, 1), 0.9, np.zeros((8, 8), np.float32)))
        return found


def corners(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    at = np.argwhere(mask)[:, ::-1]
    return at.min(0), at.max(0) + 1


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, built: Callable) -> Corpus:
    """Two sources, BUSI with several masks on some images, all pictures in the test split."""
    home, paths = built(tmp_path_factory.mktemp("evaluation"), "stu_hospital", "busi")
    merged = merge(paths, home.root, "test")
    images = np.array(merged.images)
    images["split"] = 2
    images["spacing"][images["source"] == images["source"][0]] = (0.1, 0.2)
    np.save(merged.path / "images.npy", images)
    return Corpus.open(merged.path)


@pytest.fixture(scope="module")
def model() -> Predictor:
    small = PRESETS["tiny"].model_copy(update={"depth": 2, "global_blocks": (1,), "image_size": 64})
    return Predictor(UltraSam.random(small, 0))


def test_perfect_masks_score_one(corpus: Corpus) -> None:
    oracle = Oracle(corpus)
    found = evaluate(oracle, corpus, protocol="both")
    own = found.rows[found.rows["weights"] == "model"]
    assert (own["dice"] == 1).all()
    assert (own["iou"] == 1).all()
    assert (own["nsd"] == 1).all()
    assert (own["hd95"] == 0).all()
    ours = own[own["protocol"] == "ours"]
    assert (ours["clicks_to_90"] == 0).all()
    assert own[own["protocol"] == "paper"]["clicks_to_90"].isna().all()
    for entry in found.coco:
        if entry["weights"] == "model":
            assert {*entry["bbox"].values(), *entry["segm"].values()} == {1.0}
    # Every image is encoded once, and a perfect mask is never corrected.
    assert len(oracle.images) == found.facts["images"] == len(set(oracle.images))
    assert max(tokens for _, tokens in oracle.batches) == 2
    assert max(prompts for prompts, _ in oracle.batches) > 1


def test_clicks_correct_what_is_wrong(corpus: Corpus) -> None:
    rows = evaluate(Oracle(corpus, wrong=9, learns=True), corpus, clicks=(0, 1, 3), prompts=("box",)).rows
    own = rows[rows["weights"] == "model"]
    before, after, later = (own[own["clicks"] == n].set_index("annotation")["dice"] for n in (0, 1, 3))
    assert (before < 0.97).all()
    assert (after == 1).all()
    assert (later == 1).all()
    needed = own[own["clicks"] == 0].set_index("annotation")["clicks_to_90"]
    assert (needed == (before < 0.9)).all()
    stubborn = evaluate(Oracle(corpus, wrong=40), corpus, clicks=(0, 2), prompts=("box",)).rows
    low = stubborn[(stubborn["weights"] == "model") & (stubborn["dice"] < 0.9)]
    assert len(low)
    assert (low["clicks_to_90"] == 3).all()


def test_the_ellipse_is_what_geometry_says(corpus: Corpus) -> None:
    found = evaluate(Oracle(corpus), corpus, prompts=("box",), clicks=(0,))
    own = found.rows[found.rows["weights"] == BASELINE]
    assert len(own) == found.facts["instances"]
    # A full box has Dice 2(π/4)/(1 + π/4) with its ellipse, an ellipse has 1.
    from us43d.model.prompts import ellipse

    box = np.zeros((200, 300), bool)
    box[20:170, 30:250] = True
    guess = ellipse(np.array([30, 20, 250, 170]), box.shape)
    dice = 2 * (box & guess).sum() / (box.sum() + guess.sum())
    assert dice == pytest.approx(2 * (np.pi / 4) / (1 + np.pi / 4), abs=2e-3)
    assert own["dice"].between(0.6, 1).all()


def test_the_centre_may_lie_outside_and_the_random_point_never_does(corpus: Corpus) -> None:
    from us43d.evaluate.protocols import _instance

    for row in range(len(corpus.annotations)):
        found, again, other = (_instance(corpus, row, seed) for seed in (0, 0, 1))
        x, y = (round(v) for v in found.points["random"])
        assert found.mask[y, x]
        assert found.points == again.points
        assert found.points["random"] != other.points["random"]
        assert found.points["centre"] == other.points["centre"]
        assert found.points["centre"] == pytest.approx(np.argwhere(found.mask)[:, ::-1].mean(0))


class Ring:
    """A corpus of one concave mask."""

    def __init__(self) -> None:
        self.one = np.zeros((60, 80), bool)
        self.one[10:50, 10:70] = True
        self.one[15:50, 16:64] = False
        self.annotations = {"id": np.array([1])}

    def mask(self, row: int) -> np.ndarray:
        return self.one


def test_the_centre_of_a_concave_mask_lies_outside() -> None:
    from us43d.evaluate.protocols import _instance

    found = _instance(Ring(), 0, 0)  # type: ignore[arg-type]
    x, y = (round(v) for v in found.points["centre"])
    assert not found.mask[y, x]


def test_a_click_goes_to_the_middle_of_the_largest_error() -> None:
    truth, found = np.zeros((100, 120), bool), np.zeros((100, 120), bool)
    truth[20:61, 30:71] = True
    assert click(truth, found) == (50, 40, 1)
    found[20:61, 30:71] = True
    assert click(truth, found) is None
    found[70:79, 80:111] = True  # 31 × 9 too many
    found[20:25, 30:36] = False  # 6 × 5 missed
    x, y, inside = click(truth, found)
    assert (y, inside) == (74, 0)
    assert 84 <= x <= 106
    # The picture's border is outside: a stripe along it is clicked in its middle.
    truth, found = np.zeros((50, 50), bool), np.zeros((50, 50), bool)
    truth[:, :7] = True
    assert click(truth, found)[0] == 3


def test_specks_and_smaller_instances_are_left_out_and_counted(corpus: Corpus, tmp_path: Path) -> None:
    annotations = np.array(corpus.annotations)
    several = next(n for n in range(len(corpus)) if corpus.images["count"][n] > 1)
    first = corpus.of(several)[0]
    annotations["flags"][first] = SPECK
    other = tmp_path / "corpora" / "specks"
    other.mkdir(parents=True)
    for file in corpus.path.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    np.save(other / "annotations.npy", annotations)
    found = evaluate(Oracle(corpus), Corpus.open(other, corpus.home), prompts=("box",), clicks=(0,))
    assert found.facts["left_out"]["specks"] == 1
    assert annotations["id"][first] not in set(found.rows["annotation"])
    assert "1 specks" in found.markdown()
    whole = evaluate(Oracle(corpus), corpus, prompts=("box",), clicks=(0,))
    large = evaluate(Oracle(corpus), corpus, prompts=("box",), clicks=(0,), largest=True)
    small = large.facts["left_out"]["below_95_percent_of_the_largest"]
    assert small > 0
    assert large.facts["instances"] == whole.facts["instances"] - small
    assert "below 95 %" in large.markdown()


def test_a_limit_is_said_and_depends_on_ids_alone(corpus: Corpus) -> None:
    found = [evaluate(Oracle(corpus), corpus, prompts=("box",), clicks=(0,), limit=5) for _ in range(2)]
    assert found[0].facts["images"] == 5
    assert found[0].rows["image"].nunique() == 5
    assert found[0].facts["left_out"]["images_by_limit"] == found[0].facts["images_in_reach"] - 5
    assert "(limited)" in found[0].markdown()
    assert found[0].rows.equals(found[1].rows)


def test_sources(corpus: Corpus) -> None:
    rows = evaluate(Oracle(corpus), corpus, prompts=("box",), clicks=(0,), sources=("busi",)).rows
    assert set(rows["source"]) == {"BUSI"}
    with pytest.raises(UnknownName, match=r"Unknown source 'CAMUS'\. Known: BUSI, STU-Hospital\."):
        evaluate(Oracle(corpus), corpus, sources=("CAMUS",))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"split": "val"}, "No instance to evaluate in the split 'val'"),
        ({"split": "exam"}, "Unknown split 'exam'"),
        ({"prompts": ("circle",)}, "Unknown first prompt circle"),
        ({"prompts": ()}, "needs at least one first prompt"),
        ({"clicks": (1, 3)}, "that include 0"),
    ],
)
def test_what_cannot_be_evaluated(corpus: Corpus, options: dict, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        evaluate(Oracle(corpus), corpus, **options)


def test_specks_alone_cannot_be_evaluated(corpus: Corpus, tmp_path: Path) -> None:
    """Outlines in fractions of the image are specks."""
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((120, 160), np.uint8))
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 160, "height": 120}],
        "categories": [{"id": 1, "name": "lesion"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0.2, 0.2, 0.8, 0.2, 0.8, 0.8, 0.2, 0.8]]}
        ],
    }
    (tmp_path / "data.json").write_text(json.dumps(content))
    specks = own.read(tmp_path / "data.json", tmp_path / "corpus")
    with pytest.raises(UsageError, match="split 'all' of data: 1 annotation is a speck") as caught:
        evaluate(Oracle(corpus), specks, split="all")
    assert caught.value.next == "us43d eval --help"


def test_a_name_that_is_the_baselines(corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="a name other than 'ellipse'"):
        evaluate({"ellipse": Oracle(corpus)}, corpus)


def test_a_corrupt_image_is_named(corpus: Corpus, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(corpus.home, tmp_path / "home")
    other = Corpus.open(tmp_path / "home" / "corpora" / corpus.path.name)
    victim = other.file(3)
    victim.unlink()
    victim.write_bytes(b"\x89PNG\r\n\x1a\n not a picture")
    with pytest.raises(TrainError, match=victim.name):
        evaluate(Oracle(corpus), other, prompts=("box",), clicks=(0,))
    (other.path / "rle.bin").write_bytes((other.path / "rle.bin").read_bytes()[:-5])
    shutil.copy(corpus.file(3), victim)
    with pytest.raises(TrainError, match=r"A mask of image .* cannot be decoded"):
        evaluate(Oracle(corpus), Corpus.open(other.path), prompts=("box",), clicks=(0,))


def test_intervals_are_over_groups_and_means_over_sources(corpus: Corpus) -> None:
    found = evaluate(Oracle(corpus, wrong=6), corpus, prompts=("box",), clicks=(0,))
    own = found.rows[found.rows["weights"] == "model"]
    by_source = own.groupby("source", observed=True)["dice"].mean()
    entry = next(e for e in found.summary if e["level"] == "macro" and e["weights"] == "model")
    assert entry["dice"].mean == pytest.approx(by_source.mean())
    assert entry["groups"] == own["group"].nunique() < len(own)
    assert entry["dice"].low < entry["dice"].mean < entry["dice"].high
    # Spacing is known of one source alone, and says so.
    mm = {e["name"]: e["hd95_mm"].values for e in found.summary if e["level"] == "source" and e["weights"] == "model"}
    known = corpus.sources[int(corpus.images["source"][0])]["name"]
    assert {name for name, count in mm.items() if count} == {known}
    assert {e["level"] for e in found.summary} == {"macro", "source", "organ", "structure", "diagnosis"}
    named = {e["name"] for e in found.summary if e["level"] == "diagnosis"}
    assert {"benign", "malignant"} <= named
    assert "" not in named


def test_average_precision_is_pycocotools(corpus: Corpus, model: Predictor) -> None:
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found = evaluate({"m": model}, corpus, protocol="paper")
    rows = found.rows
    truth, images, results = [], {}, {"box": [], BASELINE: []}
    at = {int(one): n for n, one in enumerate(corpus.annotations["id"])}
    for row in rows[rows["prompt"] == "box"].to_dict("records"):
        n = at[row["annotation"]]
        image = corpus.images[corpus.annotations["image"][n]]
        size = [int(image["height"]), int(image["width"])]
        images[row["image"]] = {"id": row["image"], "height": size[0], "width": size[1]}
        segmentation = {"size": size, "counts": row["rle"].decode()}
        one = {"image_id": row["image"], "category_id": 1}
        results[BASELINE if row["weights"] == BASELINE else "box"].append(
            one | {"segmentation": segmentation, "score": row["score"]}
        )
        if row["weights"] == BASELINE:
            x, y, w, h = (float(v) for v in corpus.annotations["bbox"][n])
            truth.append(one | {"id": len(truth) + 1, "iscrowd": 0, "area": w * h, "bbox": [x, y, w, h],
                                "segmentation": {"size": size, "counts": corpus.rle(n).decode()}})  # fmt: skip
    for name, mine in results.items():
        gold = COCO()
        gold.dataset = {"images": list(images.values()), "annotations": truth, "categories": [{"id": 1, "name": "x"}]}
        with contextlib.redirect_stdout(io.StringIO()):
            gold.createIndex()
            judge = COCOeval(gold, gold.loadRes(mine), "segm")
            judge.evaluate(), judge.accumulate(), judge.summarize()
        weights = BASELINE if name == BASELINE else "m"
        entry = next(e for e in found.coco if (e["weights"], e["prompt"], e["source"]) == (weights, "box", "all"))
        assert list(entry["segm"].values()) == pytest.approx(judge.stats[:3].tolist(), abs=1e-9)
    assert 0 < next(e for e in found.coco if e["weights"] == BASELINE)["segm"]["map"] < 1


class Balanced(HTMLParser):
    """Fails on tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag == "img":
            self.images += 1
            assert dict(attrs)["src"].startswith("data:image/jpeg;base64,")
        if tag not in {"meta", "img", "wbr"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_what_is_written(corpus: Corpus, model: Predictor, tmp_path: Path) -> None:
    found = evaluate({"tiny": model}, corpus, protocol="both", clicks=(0, 1), limit=8)
    folder = found.write(tmp_path / "out")
    assert {p.name for p in folder.iterdir()} == {
        ".us43d-results", "metrics.json", "instances.parquet", "measurements.parquet", "table.md", "page.html",
    }  # fmt: skip
    data = json.loads((folder / "metrics.json").read_text())
    assert data["facts"]["corpus"]["digest"] == corpus.digest
    assert set(data["facts"]["licences"]) == {"BUSI", "STU-Hospital"}
    assert len(data["summary"]) == len(found.summary)
    text = (folder / "page.html").read_text()
    page = Balanced()
    page.feed(text)
    assert page.open == []
    assert page.images >= 15  # best, median and worst of three prompts
    assert "http" not in text
    again = Evaluation.read(folder)
    assert again.summary == found.summary
    assert again.rows["rle"].tolist() == found.rows["rle"].tolist()
    with pytest.raises(UsageError, match="does not contain an evaluation"):
        Evaluation.read(tmp_path)
    with pytest.raises(UsageError, match="needs the corpus"):
        _ = again.coco


def test_differences_are_paired(corpus: Corpus, tmp_path: Path) -> None:
    good = evaluate({"good": Oracle(corpus, wrong=3)}, corpus, prompts=("box",), clicks=(0,))
    bad = evaluate({"bad": Oracle(corpus, wrong=9)}, corpus, prompts=("box",), clicks=(0,), sources=("BUSI",))
    found = compare(good, bad, "good", "bad")
    macro = next(e for e in found if e["level"] == "macro")
    assert macro["instances"] == bad.facts["instances"]  # only those both were evaluated on
    a, b = (e.rows[e.rows["weights"] == n].set_index("annotation")["dice"] for e, n in ((good, "good"), (bad, "bad")))
    assert macro["dice"].mean == pytest.approx((a - b).dropna().mean())
    assert macro["dice"].low > 0
    same = compare(good, good, "good", "good")
    assert {e["dice"][:3] for e in same} == {(0, 0, 0)}
    heads, rows = compared(found)
    assert len(heads) == len(rows[0])
    assert rows[0][6].startswith("+0.")
    baseline = compare(good, good, "good", BASELINE)
    assert baseline[0]["dice"].mean != 0
    with pytest.raises(UsageError, match="no instance and prompt in common"):
        compare(good, bad, "bad", "good")


def test_other_random_points_are_not_paired(corpus: Corpus) -> None:
    one, two = (
        evaluate(Oracle(corpus), corpus, clicks=(0,), limit=9, seed=seed, prompts=("random",)) for seed in (0, 1)
    )
    with pytest.raises(UsageError, match="seeds 0 and 1"):
        compare(one, two, "model", "model")


def test_results_do_not_depend_on_batches(corpus: Corpus, model: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    from us43d.evaluate import protocols as module

    whole = evaluate(model, corpus, clicks=(0, 1), limit=6)
    monkeypatch.setattr(module, "AT_ONCE", 1)
    single = evaluate(model, corpus, clicks=(0, 1), limit=6)
    keys = ["annotation", "weights", "prompt", "clicks"]
    one, two = (e.rows.sort_values(keys).reset_index(drop=True) for e in (whole, single))
    assert (one["dice"] - two["dice"]).abs().max() < 0.02  # pixels whose logit is next to 0 may change sides
    # and a click is placed by such pixels, so what follows one agrees less closely
    assert ((one["score"] - two["score"]).abs() < np.where(one["clicks"] == 0, 1e-4, 1e-2)).all()


def test_the_learning_curve(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    records = [{"kind": "run", "step": 0}] + [{"kind": "step", "step": n, "loss": 2 / n} for n in range(10, 100, 10)]
    records += [{"kind": "validation", "step": n, "box_dice": 0.5, "ellipse_dice": 0.7} for n in (50, 90)]
    log.write_text("\n".join(json.dumps(r) for r in records) + '\n{"kind": "st')
    found = list(journal.read(log))
    assert found == records
    drawn = report.curve(found)
    assert drawn.count('<svg height="240" role="img"') == 2
    assert drawn.count("<polyline") == 3
    assert "box prompt" in drawn
    assert "point prompt" not in drawn
    assert "no step was logged" in report.curve(found[:1])
