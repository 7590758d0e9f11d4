"""The benchmark on specimens: digests, marks, poisoned runs, corruptions, merging."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from us43d import registry
from us43d.bench import definition, leaderboard, run
from us43d.bench.corruptions import CORRUPTIONS, Corrupted
from us43d.bench.models import BoxUNet, Ellipse, Entry, Sam2, ellipse, of_weights
from us43d.bench.slices import SIZES
from us43d.coco import own
from us43d.errors import SplitError, UnknownName, UsageError
from us43d.harmonize.corpus import SPLITS, Corpus
from us43d.harmonize.merge import merge
from us43d.model import weights
from us43d.model.network import PRESETS, UltraSam
from us43d.train import journal

SMALL = PRESETS["tiny"].model_copy(update={"depth": 1, "global_blocks": (0,), "image_size": 64})


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, built: Callable) -> Corpus:
    folder = tmp_path_factory.mktemp("bench")
    home, paths = built(folder, "busi", "stu_hospital", "cubs")
    merged = merge(paths, home.root, "test")
    facts = json.loads((merged.path / "corpus.json").read_text())
    for source in facts["sources"]:
        source["specimen"] = True  # as `us43d fetch --specimen` has it
    (merged.path / "corpus.json").write_text(json.dumps(facts))
    return Corpus.open(merged.path, home.root)


@pytest.fixture(scope="module")
def quick() -> definition.Definition:
    whole = definition.read("specimens-1")
    return whole.model_copy(update={"clicks": (0, 1), "corruptions": ("gain", "jpeg"), "corrupted_images": 3})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("weights") / "mine"
    weights.save(UltraSam.random(SMALL, 0), folder, {"seen": {"sources": {"BUSI": ["breast_lesion"]}, "groups": [],
                                                            "complete": True}})  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def results(corpus: Corpus, quick: definition.Definition, saved: Path) -> list[dict]:
    models = {"mine": of_weights(saved, "cpu"), "ellipse-disc": ellipse()}
    return run.run(quick, corpus, models)[0]


def test_the_unet_of_a_box_answers_every_prompt(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("monai")
    from us43d.evaluate.protocols import evaluate
    from us43d.train.config import PRESETS as TRAINING
    from us43d.train.tasks import task_of

    task = task_of(TRAINING["box-unet"], corpus)
    task.save(task.initial(None), tmp_path / "u", {"seen": journal.NOTHING})
    entry = of_weights(tmp_path / "u", "cpu")
    assert isinstance(entry.segmenter, BoxUNet)
    assert entry.seen["complete"]
    found = evaluate({"u": entry.segmenter}, corpus, split="test", sources=["BUSI"], clicks=(0, 1), limit=2)
    own = found.rows[found.rows["weights"] == "u"]
    assert len(own) == 2 * 3 * found.facts["instances"]
    assert own["dice"].between(0, 1).all()


def test_definitions_are_valid_and_differ() -> None:
    known = [definition.read(name) for name in definition.names()]
    assert {each.label for each in known} == {"us43d-1", "specimens-1"} == set(definition.names())
    assert len({each.digest for each in known}) == 2
    real = definition.read("us43d-1")
    assert set(real.external) <= {r.name for r in registry.recipes() if r.row is None}
    assert set(real.core) <= {r.name for r in registry.recipes()}
    from us43d.splits import pinned

    slugs = {registry.find(name).slug: digest for name, digest in real.core.items()}
    assert slugs == {slug: entry["sha256"] for slug, entry in pinned.index()["sources"].items()}


def test_a_definition_that_is_not_valid(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="us43d-1"):
        definition.read("nothing")
    good = definition.read("us43d-1").model_dump(mode="json")
    for change, said in (({"corruptions": ["rain"]}, "rain"), ({"clicks": [1]}, "begin with 0"),
                         ({"severities": [4]}, "severities"), ({"version": 0}, "version")):  # fmt: skip
        file = tmp_path / "own.json"
        file.write_text(json.dumps(good | change))
        with pytest.raises(UsageError, match=said):
            definition.read(str(file))


def test_results_say_what_was_run(results: list[dict], corpus: Corpus, quick: definition.Definition) -> None:
    mine, baseline = results
    assert set(mine["sources"]) == {"BUSI", "STU-Hospital", "CUBS"}
    assert mine["missing"] == ["CAMUS", "HC18"]
    assert mine["sources"]["CUBS"]["tier"] == "external"
    assert mine["regimes"] == {"BUSI": "full", "STU-Hospital": "structure", "CUBS": "no structure"}
    assert set(baseline["regimes"].values()) == {"no structure"}
    assert {(e["corruption"], e["severity"]) for e in mine["corruptions"]} == {("gain", 2), ("jpeg", 2)}
    sizes = [(e["tier"], e["value"]) for e in mine["slices"] if e["slice"] == "size"]
    assert sizes == [(tier, value) for tier in ("core", "external") for _, value in SIZES if (tier, value) in sizes]
    assert {tier for tier, _ in sizes} == {"core", "external"}
    counted = sum(e["instances"] for e in mine["slices"] if e["slice"] == "size")
    assert counted == len({row[0] for row in mine["instances"]})
    _, rows = leaderboard.merge([mine])._by("slices", ("tier", "slice", "value"))
    assert len(rows) == len(mine["slices"])
    # The ellipse looks at no image, so that no corruption changes it.
    assert len({e["dice"]["mean"] for e in baseline["corruptions"]}) == 1
    test = {int(corpus.images["id"][n]) for n in corpus.split("test")}
    assert test
    tested = {a for a, *_ in mine["instances"]}
    of = {int(a["id"]): a["image"] for a in corpus.annotations}
    core = {n for n in tested if corpus.sources[corpus.images["source"][of[n]]]["name"] != "CUBS"}
    assert {int(corpus.images["id"][of[n]]) for n in core} <= test
    assert json.loads(json.dumps(mine)) == mine


def test_two_runs_give_the_same_bytes(
    results: list[dict], corpus: Corpus, quick: definition.Definition, saved: Path, tmp_path: Path
) -> None:
    again, _ = run.run(quick, corpus, {"mine": of_weights(saved, "cpu")})
    assert run.write(again[0], tmp_path / "a").read_bytes() == run.write(results[0], tmp_path / "b").read_bytes()


def test_a_result_that_was_edited_is_refused(results: list[dict], tmp_path: Path) -> None:
    file = run.write(results[0], tmp_path)
    assert run.verified(file) == results[0]
    file.write_text(file.read_text().replace('"regimes"', '"regimes" ').replace('"full"', '"structure"'))
    with pytest.raises(UsageError, match="was changed"):
        run.verified(file)
    file.write_text("[]")
    with pytest.raises(UsageError, match="not a benchmark result"):
        run.verified(file)


def test_a_poisoned_run_is_refused(corpus: Corpus, quick: definition.Definition) -> None:
    """Trained on all splits, the test groups included."""
    rows = np.flatnonzero(corpus.images["split"][corpus.annotations["image"]] <= SPLITS.index("test"))
    in_train = rows[corpus.images["split"][corpus.annotations["image"][rows]] == SPLITS.index("train")]
    core = [n for n, source in enumerate(corpus.sources) if source["name"] != "CUBS"]
    of = corpus.images["source"][corpus.annotations["image"]]
    clean = seen(corpus, in_train[np.isin(of[in_train], core)], journal.NOTHING)
    run._not_poisoned("clean", Entry(Ellipse(), "", clean, ""), _tests(corpus), ["CUBS"])
    with pytest.raises(SplitError, match="external tier"):
        run._not_poisoned("x", Entry(Ellipse(), "", seen(corpus, in_train, None), ""),
                          {name: set() for name in ("BUSI", "CUBS")}, ["CUBS"])  # fmt: skip
    poisoned = Entry(Ellipse(), "", seen(corpus, rows, journal.NOTHING), "")
    with pytest.raises(SplitError, match="test groups"):
        run.run(quick, corpus, {"poisoned": poisoned})
    # What the first weights saw is inherited.
    child = seen(corpus, in_train[np.isin(of[in_train], core)], poisoned.seen)
    with pytest.raises(SplitError, match="test groups"):
        run.run(quick, corpus, {"child": Entry(Ellipse(), "", child, "")})


def test_test_images_in_data_of_ones_own_are_detected(
    corpus: Corpus, quick: definition.Definition, tmp_path: Path
) -> None:
    """Trained by --data on copies under other names: the groups are not recorded, the pixels are."""

    def copied(split: str) -> Corpus:
        folder = tmp_path / split
        folder.mkdir()
        rows = [
            int(row) for row in corpus.split(split) if corpus.sources[corpus.images["source"][row]]["name"] == "BUSI"
        ]
        content: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "mine"}]}
        for n, row in enumerate(rows):
            pixels = corpus.picture(row)
            cv2.imwrite(str(folder / f"x{n}.bmp"), pixels if pixels.ndim == 2 else pixels[:, :, ::-1])
            height, width = pixels.shape[:2]
            content["images"].append({"id": n, "file_name": f"x{n}.bmp", "width": width, "height": height})
            content["annotations"].append({"id": n, "image_id": n, "category_id": 1,
                                           "segmentation": [[2, 2, 30, 2, 30, 30, 2, 30]]})  # fmt: skip
        (folder / "own.json").write_text(json.dumps(content))
        return own.read(folder / "own.json", folder / "corpus")

    def entry(split: str, before: dict = journal.NOTHING) -> Entry:
        data = copied(split)
        record = journal.seen(data, np.arange(len(data)), np.arange(len(data.annotations)), before)
        assert not record["groups"]
        assert record["images"]
        assert not record["complete"]
        return Entry(Ellipse(), "", record, "")

    tests = {"BUSI": "test", "CUBS": "all"}
    run._no_test_image_seen(corpus, {"clean": entry("train")}, tests)
    poisoned = entry("test")
    with pytest.raises(SplitError, match="test images of BUSI"):
        run.run(quick, corpus, {"poisoned": poisoned})
    child = journal.seen(corpus, corpus.split("train")[:1], np.zeros(0, int), poisoned.seen)
    with pytest.raises(SplitError, match="test images of BUSI"):
        run.run(quick, corpus, {"child": Entry(Ellipse(), "", child, "")})


def seen(corpus: Corpus, annotations: np.ndarray, before: dict | None) -> dict:
    return journal.seen(corpus, np.unique(corpus.annotations["image"][annotations]), annotations, before)


def _tests(corpus: Corpus) -> dict[str, set[str]]:
    return {s["name"]: run._groups(corpus, s["name"], whole=s["name"] == "CUBS") for s in corpus.sources}


def test_published_definitions_refuse_specimens(corpus: Corpus) -> None:
    with pytest.raises(UsageError, match="synthetic sample datasets"):
        run.run(definition.read("us43d-1"), corpus, {"e": ellipse()})


def test_merging(results: list[dict], tmp_path: Path) -> None:
    board = leaderboard.merge(results)
    data = board.data()
    assert [model["rank"] for model in data["models"]] == [1, 2]
    assert data["models"][0]["name"] == "ellipse-disc"  # random weights are worse
    (pair,) = data["paired"]
    assert pair["first"] == "mine"
    assert pair["dice"]["mean"] < 0
    heads, rows = board.table()
    mine = dict(zip(heads, rows[1], strict=True))
    assert mine["BUSI"].endswith("†")
    assert mine["STU-Hospital"].endswith("‡")
    heads, rows = board.protocols()
    best = dict(zip(heads, rows[0], strict=True))
    assert best["UltraSam: box mAP"] > best["UltraSam: centre mAP"]
    board.write(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {".us43d-results", "leaderboard.json", "table.md", "page.html"}
    page = (tmp_path / "page.html").read_text()
    assert "Paired differences" in page


def test_results_that_two_labs_share_count_once(results: list[dict], tmp_path: Path) -> None:
    later = [dict(result) | {"us43d": "99.0"} for result in copy.deepcopy(results)]
    for result in later:
        result["digest"] = definition.digest_of({key: value for key, value in result.items() if key != "digest"})
    board = leaderboard.merge([results[0], later[0], *later])
    assert [result["us43d"] for result in board.results] == [results[0]["us43d"], "99.0"]
    assert leaderboard.merge(results).data()["paired"] == board.data()["paired"]
    changed = copy.deepcopy(results[1])
    changed["scores"][0]["dice"]["mean"] += 0.01
    with pytest.raises(UsageError, match="with the same weights"):
        leaderboard.merge([*results, changed])
    changed["model"]["sha256"] = "0" * 64
    with pytest.raises(UsageError, match="with different weights"):
        leaderboard.merge([*results, changed])


@pytest.mark.parametrize("what", ["definition", "build", "prompts", "name"])
def test_results_that_do_not_fit_are_not_merged(results: list[dict], what: str) -> None:
    other = copy.deepcopy(results[1])
    if what == "definition":
        other["definition"]["digest"] = "0" * 64
    elif what == "name":
        other["model"]["name"] = results[0]["model"]["name"]
    else:
        other["sources"]["BUSI"][what] = "0" * 64
    with pytest.raises(UsageError):
        leaderboard.merge([results[0], other])


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 3)])
def test_corruptions_keep_the_form_and_change_the_image(name: str, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(20, 200, shape).astype(np.uint8)
    boxes = np.array([[2, 3, 20, 25]])
    worse = []
    for severity in (1, 2, 3):
        out = CORRUPTIONS[name](image, boxes, severity, np.random.default_rng(1))
        again = CORRUPTIONS[name](image, boxes, severity, np.random.default_rng(1))
        assert out.shape == image.shape
        assert out.dtype == np.uint8
        assert (out == again).all()
        worse.append(np.abs(out.astype(int) - image).mean())
    assert 0 < worse[0] < worse[2]
    if name == "crop":
        assert (out[3:25, 2:20] == image[3:25, 2:20]).all()
        assert (out[-4:] == 0).all()


def test_a_corrupted_corpus_leaves_the_corpus_alone(corpus: Corpus) -> None:
    bad = Corrupted(corpus, "gain", 3)
    assert (bad.picture(0) != corpus.picture(0)).any()
    assert (bad.picture(0) == Corrupted(corpus, "gain", 3).picture(0)).all()
    assert (bad.mask(0) == corpus.mask(0)).all()


def test_sam2_by_its_own_package(corpus: Corpus, tmp_path: Path) -> None:
    """A random SAM 2 of one small block a stage answers every prompt; its masks follow the image's shape."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=16, image_size=[128, 128], blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[8, 4, 4, 4], global_attention_blocks=[3],
    )  # fmt: skip
    config = transformers.Sam2Config(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[128, 64, 32, 16],
            backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]], fpn_hidden_size=32,
        ),
        prompt_encoder_config=transformers.Sam2PromptEncoderConfig(hidden_size=32, image_size=128, patch_size=16),
        mask_decoder_config=transformers.Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=32
        ),
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.Sam2Model(config).save_pretrained(tmp_path)
    entry = of_weights(tmp_path, "cpu")
    assert isinstance(entry.segmenter, Sam2)
    from us43d.evaluate.protocols import evaluate

    found = evaluate({"sam2": entry.segmenter}, corpus, split="test", sources=["BUSI"], clicks=(0, 1))
    own = found.rows[found.rows["weights"] == "sam2"]
    assert len(own) == 2 * 3 * found.facts["instances"]
    assert own["dice"].between(0, 1).all()


def test_sam2_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "sam2"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match="SAM 2 needs the package transformers") as caught:
        of_weights(tmp_path, "cpu")
    assert caught.value.next == "pip install 'us43d[tasks]'"
