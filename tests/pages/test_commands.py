"""Every command on the pages of the documentation runs, in the order of its page, on specimens and small weights.

A page's commands are typed as they stand, apart from `ADDED` (options that make a command small or keep it off the
network) and `ELSEWHERE` (commands that need what a test cannot have, or another test runs already). Verbs that start a
server open their page in a browser that reads it and presses Ctrl-C.
"""

import importlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import SimpleITK as sitk

from us43d import specimen
from us43d.coco.segmentation import encode
from us43d.model import onnx, weights
from us43d.model.network import PRESETS, UltraSam
from us43d.view.inputs import FileInputs
from us43d.view.labels import Labels

ROOT = Path(__file__).resolve().parents[2]
#: docs/cli.md has the examples of every command's help; docs/finetune.md has a test of its own (tests/unit/train).
PAGES = [
    ROOT / "README.md",
    *(
        page
        for page in sorted(ROOT.glob("docs/**/*.md"))
        if page.name not in ("cli.md", "finetune.md") and "cards" not in page.parts
    ),
]  # fmt: skip
SOURCES = ("BUSI", "STU-Hospital", "HC18", "CAMUS", "TN3K")
_SMALL = ("batch=2", "micro_batch=2", "precision=float32", "workers=0", "validation_images=2")
SHORT = ("--steps", "2", *(word for value in _SMALL for word in ("--set", value)))
#: Commands by their beginning, and what is added; the first that fits.
ADDED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("us43d train --run full --resume", ("--steps", "2")),  # its settings are those of the run
    ("us43d train --preset ultrasam-vitb", (*SHORT, "--set", "model=tiny")),
    ("us43d train", SHORT),
    ("us43d eval --weights diagnosis", ()),
    ("us43d eval", ("--limit", "2")),
    ("us43d export us43d --to medsam", ("--size", "64")),
)
#: Commands that do not run here, and why.
ELSEWHERE = {
    "us43d fetch --all --accept-licence all": "downloads every source; the demo fetches the specimens of all",
    "us43d weights get": "downloads; tests/unit/cli/test_model_verbs.py runs it against a local server",
    "us43d links": "asks the hosts; tests/faults/fetch runs it against a local server",
    "us43d train --preset nano --corpus s3://": "needs a bucket; tests/unit/export runs it against a local S3 server",
    "us43d bench": "needs the corpus of a definition; tests/unit/cli/test_bench.py runs it",
    "us43d new": "writes into the checkout; tests/unit/cli/test_new.py runs it in a copy",
    "us43d fetch Wrist-Set": "a source that `us43d new` makes; tests/unit/cli/test_new.py",
    "us43d build Wrist-Set": "a source that `us43d new` makes; tests/unit/cli/test_new.py",
    "us43d check Wrist-Set": "a source that `us43d new` makes; tests/unit/cli/test_new.py",
    'python -c "import fiftyone': "wants a MongoDB; tests/unit/export tests the rule of its reader",
    "us43d demo": "the main job of CI",
    "us43d view BUSI --against": "names a version that specimens do not have; tests/web/test_against.py",
    "us43d diff BUSI/": "names versions that specimens do not have; tests/unit/cli/test_audit.py",
}
#: Lines with placeholders describe the options of a command; nobody types them.
SYNOPSIS = re.compile(r"[|…]|\[-|\[[A-Z]|\.\.\.|(?<![\w$])[A-Z]{4,}(?!\w*[-'/0-9])(?<!BUSI)(?<!CAMUS)")


def steps(text: str) -> list[str]:
    """What a page runs, in its order: the lines of code blocks that call us43d or `python -c`, without comments (a
    backslash continues a line), and its Python blocks."""
    run: list[str] = []
    language, block = "", ""
    for line in text.splitlines():
        if line.startswith("```"):
            if language == "python":
                run.append(block)
            else:
                run += _commands(block)
            language, block = ("" if language else line[3:].strip() or "text"), ""
        elif language or line.startswith("    "):
            block += line + "\n"
        else:
            run += _commands(block)
            block = ""
    return run + _commands(block)


def _commands(block: str) -> list[str]:
    lines = re.findall(r"^ *(?:\$ )?((?:us43d|python -c) (?:[^\n]*\\\n)*[^\n]*)", block, re.M)
    whole = (re.split(r"\s#\s|\s{2,}|\s>\s", re.sub(r" *\\\n *", " ", line))[0].strip() for line in lines)
    single = (one.strip() for line in whole for one in line.split("&&"))
    return [
        line
        for line in single
        if line.startswith("python -c ") or (line.startswith("us43d ") and not SYNOPSIS.search(line))
    ]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """home/: five built specimens, and small weights under the names that pages use; work/: a person's own files."""
    top = tmp_path_factory.mktemp("world")
    main = importlib.import_module("us43d.cli.app").main
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("US43D_HOME", str(top / "home"))
        for words in (("fetch", *SOURCES, "--specimen"), ("build", "--all"), ("audit", "--all"), ("build", "--all"),
                      ("fetch", "EchoNet-Dynamic", "BUSI", "--specimen", "--home", str(top / "published")),
                      ("train", "--preset", "tiny", "--run", "full", *SHORT, "--steps", "1")):  # fmt: skip
            patch.setattr("sys.argv", ["us43d", *words, "--quiet"])
            assert main() == 0
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    downloads = top / "user" / "Downloads"
    for name in ("EchoNet-Dynamic", "BUSI"):
        shutil.copytree(top / "published" / "raw" / name, downloads / name)
    model = UltraSam.random(PRESETS["tiny"], 0)
    for name in ("ultrasam", "sam_vit_b", "imagenet_vit_b", "mine", "first", "tiny"):
        weights.save(model, top / "home" / "weights" / name)
    work = top / "work"
    rng = np.random.default_rng(0)
    for name in ("scans", "masks"):
        (work / name).mkdir(parents=True)
    for n in range(8):
        mask = specimen.blob((96, 120), rng, 0.3)
        for name, pixels in (
            ("scans", specimen.speckle((96, 120), [mask], rng)),
            ("masks", 255 * mask.astype(np.uint8)),
        ):
            cv2.imwrite(str(work / name / f"P{n // 2:02}_{n % 2}.png"), pixels)
    lab = top / "user" / "thyroid-lab"
    shutil.copytree(work / "scans", lab)
    for category, out in (("lesion", work / "my_coco.json"), ("thyroid_nodule", lab / "labels.json")):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(work)
            words = ("coco", "scans", "masks", "--category", category, "--out", str(out), "--quiet")
            patch.setattr("sys.argv", ["us43d", *words])
            assert main() == 0
    for name in ("scan.png", "new.png"):
        cv2.imwrite(str(work / name), specimen.speckle((240, 200), [specimen.blob((240, 200), rng)], rng))
    for name in ("mask.png", "head.png", "diastole.png", "systole.png"):
        cv2.imwrite(str(work / name), 255 * specimen.blob((240, 200), rng, 0.3).astype(np.uint8))
    volume = sitk.GetImageFromArray(specimen.blob((240, 200), rng, 0.3).astype(np.uint8))
    volume.SetSpacing((0.12, 0.12))
    sitk.WriteImage(volume, str(work / "mask.nii.gz"))
    for name in ("clip.avi", "heart.avi"):
        video = cv2.VideoWriter(str(work / name), cv2.VideoWriter.fourcc(*"MJPG"), 10, (200, 240))
        for _ in range(4):
            video.write(
                cv2.cvtColor(specimen.speckle((240, 200), [specimen.blob((240, 200), rng)], rng), cv2.COLOR_GRAY2BGR)
            )
        video.release()
    for name, mask in (
        ("scans", specimen.blob((96, 120), rng, 0.3)),
        ("clip.avi", specimen.blob((240, 200), rng, 0.3)),
    ):
        labels = Labels(FileInputs(work / name), work / f"{name}-labels")
        for n in range(len(labels.inputs.items)):
            labels.save(n, 0, [{"structure": "thyroid_nodule", "rle": encode(mask).decode()}], reviewed=True)
        labels.close()
    return top


@pytest.fixture
def at_home(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the world, as $US43D_HOME, $HOME and the working folder; ONNX graphs are made once of each model."""
    made: dict[str, tuple[Path, Any]] = {}

    def once(model: UltraSam, folder: Path, make: Any = onnx._graphs) -> Any:
        shape = model.config.model_dump_json()
        if shape not in made:
            kept = tmp_path / f"graphs{len(made)}"
            kept.mkdir()
            made[shape] = kept, make(model, kept)
        shutil.copytree(made[shape][0], folder, dirs_exist_ok=True)
        return made[shape][1]

    monkeypatch.setattr(onnx, "_graphs", once)
    shutil.copytree(world, tmp_path / "w", symlinks=True)
    monkeypatch.setenv("US43D_HOME", str(tmp_path / "w" / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "w" / "user"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path / "w" / "work")
    return tmp_path / "w"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_run(
    page: Path, at_home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module("us43d.cli.app").main
    terminated, interrupted = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start tests with Ctrl-C ignored
    failed = []
    names: dict[str, Any] = {}
    for step in steps(page.read_text("utf-8")):
        if any(step.startswith(beginning) for beginning in ELSEWHERE):
            continue
        if not step.startswith("us43d "):
            step = shlex.split(step)[2] if step.startswith("python -c ") else step
            with warnings.catch_warnings(action="default"):  # those of other tools are theirs
                exec(compile(step, str(page), "exec"), names)
            continue
        words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in shlex.split(step)[1:]]
        if "--from" in words:  # nobody is there to answer; and a specimen passes for real data then
            words += ["--accept-licence", words[1], "--home", "other"]
        words += next((more for beginning, more in ADDED if step.startswith(beginning)), ())
        if words[0] == "fetch" and not {"--specimen", "--from", "--dry-run"} & set(words):
            words.append("--specimen")
        browser = Browser()
        # `open` shows the page of a host, which no test asks: bool says that it was shown.
        monkeypatch.setattr("webbrowser.open", bool if words[0] == "open" else browser.open)
        monkeypatch.setattr("sys.argv", ["us43d", *words])
        code = main()
        if code != 0 or browser.title != (words[0] in ("view", "label")):
            failed.append(f"{step} → {code}\n{capfd.readouterr().err}")
    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGINT, interrupted)
    assert failed == [], "\n".join(failed)


@pytest.mark.usefixtures("at_home")
def test_the_notebook_runs() -> None:
    notebook = ROOT / "docs/tutorials/corpus-in-python.ipynb"
    names: dict[str, Any] = {}
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(notebook), "exec"), names)
    assert 0 < names["dice"] <= 1
    assert Path("overlay.png").is_file()


def test_what_a_page_runs() -> None:
    text = "a us43d list\n\n    us43d fetch A \\\n      --all   # why\n    ls\n\n```python\nx = 1\n```\n\n"
    text += "```\nus43d list\n```\n"
    assert steps(text) == ["us43d fetch A --all", "x = 1\n", "us43d list"]
    assert steps("    python -c 'print(1)'\n    python train.py\n") == ["python -c 'print(1)'"]
    assert steps("    us43d eval --weights RUN|FILE\n    us43d predict INPUT --box 1,2,3,4\n") == []


class Browser:
    """Opens the page of a server verb, then presses Ctrl-C."""

    title = False

    def open(self, address: str) -> None:
        try:
            with urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(address) as answer:
                self.title = b"<title>" in answer.read()
        finally:
            signal.raise_signal(signal.SIGINT)
