"""us43d train, eval and predict with --task, on a user's own COCO file."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from us43d import specimen
from us43d.model import weights

from .runs import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of bright and of dark blobs, with a diagnosis each; two to a patient."""
    folder, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    listing: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for n in range(24):
        mask = specimen.blob((48, 64), rng, 0.3)
        masks = [np.zeros_like(mask), mask] if n // 2 % 2 else [mask]
        cv2.imwrite(str(folder / f"{n:02}.png"), specimen.speckle((48, 64), masks, rng))
        x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
        listing.append({"id": n, "file_name": f"{n:02}.png", "width": 64, "height": 48, "group": f"p{n // 2}",
                        "tags": {"diagnosis": ("benign", "malignant")[n // 2 % 2]}})  # fmt: skip
        annotations.append({"id": n, "image_id": n, "category_id": 1,
                            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]})  # fmt: skip
    content = {"images": listing, "annotations": annotations, "categories": [{"id": 1, "name": "lesion"}]}
    (folder / "data.json").write_text(json.dumps(content))
    return folder


QUICK = ("--set", "model=tiny", "--set", "batch=4", "--set", "micro_batch=4", "--set",
         "precision=float32", "--set", "workers=0", "--device", "cpu")  # fmt: skip


@pytest.mark.parametrize("task", ["classify", "classify-prompt"])
def test_train_eval_predict(task: str, folder: Path, tmp_path: Path) -> None:
    home = ("--home", tmp_path / "home")
    data = ("--data", folder / "data.json")
    code, out, err = run("train", "--task", task, *data, "--steps", 3, "--run", "r", *QUICK, *home, "--json")
    assert code == 0, err
    assert json.loads(out)["validation"][-1]["f1"] is not None
    code, out, err = run("eval", "--weights", "r", *data, *home, "--out", tmp_path / "e", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["facts"]["task"] == task
    assert {item["truth"] for item in said["items"]} <= {"benign", "malignant"}
    assert "<svg" in (tmp_path / "e" / "page.html").read_text()
    box = ("--box", "5,5,40,40") if task == "classify-prompt" else ()
    where = ("--out", tmp_path / "p")
    code, out, err = run("predict", folder / "00.png", "--weights", "r", *box, *home, *where, "--json")
    assert code == 0, err
    (found,) = json.loads(out)["predictions"]
    assert found["class"] in ("benign", "malignant")
    assert found["benign"] + found["malignant"] == pytest.approx(1, abs=1e-4)
    for ignored in (("--everything",), ("--frame", "0"), ("--structure", "lesion")):
        code, _, err = run("predict", folder / "00.png", "--weights", "r", *box, *ignored, *home, *where)
        assert code == 2
        assert "take whole files" in err
    (tmp_path / "broken").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "broken" / name).write_bytes(b"no image")
    code, _, err = run("predict", tmp_path / "broken", "--weights", "r", *box, *home, "--out", tmp_path / "b")
    assert (code, "2 of 2 files could not be classified" in err, "The others" in err) == (3, True, False)
    wrong = () if box else ("--box", "5,5,40,40")
    code, _, err = run("predict", folder / "00.png", "--weights", "r", *wrong, *home, *where)
    assert code == 2
    assert "takes" in err
    code, _, err = run("eval", "--weights", "r", *data, *home, "--task", "promptable")
    assert code == 2
    assert f"is {task}, not" in err


def test_a_box_unet_is_trained_evaluated_and_predicts(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("monai")
    home, data = ("--home", tmp_path / "home"), ("--data", folder / "data.json")
    code, out, err = run("train", "--task", "box-unet", *data, "--steps", 2, "--run", "r", *QUICK, *home, "--json")
    assert code == 0, err
    trained = json.loads(out)["validation"][-1]
    code, out, err = run("eval", "--weights", "r", *data, *home, "--protocol", "ours", "--clicks", "0", "--out",
                         tmp_path / "e", "--json")  # fmt: skip
    assert code == 0, err
    rows = [row for row in json.loads(out)["summary"] if row["level"] == "source"]
    assert {row["prompt"] for row in rows} == {"box"}
    found = {row["weights"]: row["dice"]["mean"] for row in rows}
    assert found["r"] == pytest.approx(trained["box_dice"], abs=0.03)
    assert found["ellipse"] == pytest.approx(trained["ellipse_dice"], abs=0.03)
    ask = ("predict", folder / "00.png", "--weights", "r", *home)
    code, out, err = run(*ask, "--box", "5,5,40,40", "--box", "20,10,60,40", "--out", tmp_path / "p", "--json")
    assert code == 0, err
    assert "mean probability" in err
    content = json.loads((tmp_path / "p" / "predictions.json").read_text())
    assert [one["prompt"]["box"] for one in content["annotations"]] == [[5, 5, 40, 40], [20, 10, 60, 40]]
    for words, said in (((), "take boxes"), (("--point", "5,5"), "take boxes"), (("--everything",), "take boxes"),
                        (("--box", "5,5,40,40", "--crop-sector"), "--crop-sector"),
                        (("--box", "5,5,40,40", "--everything"), "neither another prompt"),
                        (("--box", "90,5,99,9"), "outside the image of 64 × 48")):  # fmt: skip
        code, _, err = run(*ask, *words, "--out", tmp_path / "q")
        assert code == 2, err
        assert said in err
    code, _, err = run("eval", "--weights", "r", *data, *home, "--clips")
    assert code == 2
    assert "boxes alone" in err


def test_label_maps_of_a_folder_with_subfolders_and_a_broken_image(folder: Path, tmp_path: Path) -> None:
    home, scans = ("--home", tmp_path / "home"), tmp_path / "scans"
    code, _, err = run("train", "--task", "semantic", "--data", folder / "data.json", "--steps", 2, "--run", "r",
                       *QUICK, *home)  # fmt: skip
    assert code == 0, err
    (scans / "left").mkdir(parents=True)
    (scans / "broken.png").write_bytes(b"no image")
    for name in ("a.png", "left/b.png"):
        (scans / name).write_bytes((folder / "00.png").read_bytes())
    code, _, err = run("predict", scans, "--weights", "r", *home, "--out", tmp_path / "p")
    assert code == 3
    assert "1 of 3 files could not be segmented: broken.png" in err
    written = {file.relative_to(tmp_path / "p").as_posix() for file in (tmp_path / "p").rglob("*.*")}
    assert written == {".us43d-predict", "a.png", "left/b.png", "overlays/a.png", "overlays/left/b.png", "labels.json"}
    # Prompted masks in the same folder leave the label maps known as results.
    for words in (("--weights", "r"), ("--box", "4,4,30,30"), ("--weights", "r")):
        code, _, err = run("predict", scans / "a.png", *words, *home, "--out", tmp_path / "p")
        assert code == 0, err
    before = (scans / "a.png").read_bytes()
    code, _, err = run("predict", scans / "a.png", "--weights", "r", *home, "--out", scans)
    assert code == 1
    assert "a.png exists, and was not written by us43d predict." in err
    assert (scans / "a.png").read_bytes() == before
    (tmp_path / "own").mkdir()
    (tmp_path / "own/labels.json").write_text("{}")
    code, _, err = run("predict", scans / "a.png", "--weights", "r", *home, "--out", tmp_path / "own")
    assert "labels.json exists, and was not written by us43d predict.\nNothing was changed on disk." in err
    assert [file.name for file in (tmp_path / "own").iterdir()] == ["labels.json"]


def test_instances_are_trained_evaluated_and_predicted(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    home, data = ("--home", tmp_path / "home"), ("--data", folder / "data.json")
    head = [f"head.{name}" for name in ("width=32", "queries=4", "pixel_layers=1", "query_layers=1", "heads=4",
                                        "feedforward=32", "points=64")]  # fmt: skip
    sets = [word for name in head for word in ("--set", name)]
    code, out, err = run("train", "--task", "instances", *data, "--steps", 2, "--run", "r", *QUICK, *sets, *home,
                         "--json")  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["validation"][-1]["segm_map"] is not None
    code, out, err = run("eval", "--weights", "r", *data, *home, "--out", tmp_path / "e", "--json")
    assert code == 0, err
    whole, lesion = json.loads(out)["average_precision"]["structures"]
    assert lesion["structure"] == "lesion"
    assert whole["segm"] == lesion["segm"]
    code, out, err = run("predict", folder / "00.png", "--weights", "r", *home, "--min-score", 0, "--out",
                         tmp_path / "p", "--json")  # fmt: skip
    assert code == 0, err
    content = json.loads((tmp_path / "p" / "predictions.json").read_text())
    assert [category["name"] for category in content["categories"]] == ["lesion"]
    assert 0 < len(content["annotations"]) <= 4
    assert "class times mask probability" in err
    from pycocotools.coco import COCO

    gold = COCO()
    gold.dataset = {"info": {}, "images": content["images"], "annotations": [], "categories": content["categories"]}
    gold.createIndex()
    assert len(gold.loadRes(content["annotations"]).anns) == len(content["annotations"])
    code, _, err = run("predict", folder / "00.png", "--weights", "r", *home, "--box", "1,1,9,9")
    assert code == 2
    assert "take no prompts" in err


def test_clips_of_a_specimen(tmp_path: Path, built: Callable) -> None:
    from us43d.harmonize.merge import merge
    from us43d.model import weights
    from us43d.model.network import PRESETS, UltraSam

    home, builds = built(tmp_path, "echonet_dynamic")
    merge(builds, home.root, "us43d")
    small = PRESETS["tiny"].model_copy(update={"depth": 1, "global_blocks": (0,), "image_size": 64})
    weights.save(UltraSam.random(small, 0), home.weights / "one")
    where = ("--home", home.root, "--all", "--split", "train", "--out", tmp_path / "c")
    code, out, err = run("eval", "--weights", "one", "--clips", *where, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert {row["step"] for row in said["clips"]} == {0, 1}
    assert all(abs(row["truth"] - row["table"]) < 2 for row in said["ejection_fractions"])
    assert (tmp_path / "c" / "clips.csv").is_file()
    code, _, err = run("eval", "--weights", "one", "--clips", "--home", home.root, "--all", "--split", "all")
    assert code == 2
    assert "one split" in err


def test_structures_of_several_weights_do_not_replace_each_other(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "data.json").read_text())
    own = {"images": content["images"][:2], "annotations": content["annotations"][:2],
           "categories": [{"id": 1, "name": "breast_lesion"}]}  # fmt: skip
    (tmp_path / "data.json").write_text(json.dumps(own))
    shutil.copytree(weights.shipped(), tmp_path / "copy")
    ask = ("eval", "--structures", "--weights", "us43d-small", "--weights", tmp_path / "copy", "--split", "all")
    code, _, err = run(*ask, "--data", tmp_path / "data.json", "--images", folder, "--home", tmp_path / "home",
                       "--device", "cpu", "--out", tmp_path / "e")  # fmt: skip
    assert code == 0, err
    tables = sorted((tmp_path / "e").rglob("structures.csv"))
    assert [table.parent.name for table in tables] == ["copy-structures", "us43d-small-structures"]
