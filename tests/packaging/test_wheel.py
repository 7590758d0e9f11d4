"""sdist → wheel → fresh environment elsewhere: the files are all there and the command runs."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAPPED = {"us43d": "us43d", "recipes": "us43d/recipes", "cli": "us43d/cli", "manifests": "us43d/manifests"}


def run(*command: str, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **env}, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files git knows, as they are now, in another folder."""
    folder = tmp_path_factory.mktemp("clone") / "us43d"
    names = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as an index would offer it (with the build tools of this environment)."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), cwd=clone)
    return next(out.glob("*.whl"))


def test_wheel_holds_every_file_of_the_tree(clone: Path, wheel: Path) -> None:
    wanted = {
        f"{inside}/{path.relative_to(clone / top).as_posix()}"
        for top, inside in MAPPED.items()
        for path in (clone / top).rglob("*")
        if path.is_file()
        and path.suffix
        in {
            ".py",
            ".json",
            ".jsonl",
            ".csv",
            ".typed",
            ".html",
            ".css",
            ".toml",
            ".bib",
            ".js",
            ".svg",
            ".md",
            ".safetensors",
        }
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith("us43d-")}
    assert held == wanted


def test_installed_elsewhere_it_runs(wheel: Path, tmp_path: Path) -> None:
    # The environment's own packages stand in for the index; only us43d comes from the wheel.
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, system_site_packages=False)
    site = next((home / "lib").glob("python*/site-packages"))
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target")
    run(*pip, str(site), str(wheel), cwd=tmp_path)
    outer = [path for path in sys.path if path.endswith("site-packages")]
    (site / "outer.pth").write_text("\n".join(outer))
    python = str(home / "bin" / "python")
    where = run(
        python, "-c", "import us43d.recipes, us43d; print(us43d.__file__, us43d.recipes.__file__)", cwd=tmp_path
    )
    assert str(ROOT) not in where
    listed = run(python, "-m", "us43d", "list", "--json", cwd=tmp_path, US43D_HOME=str(tmp_path / "home"))
    assert "BUSI" in listed
    assert not (tmp_path / "home").exists()


def test_bare_clone_runs_without_installing(clone: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    packages = sysconfig.get_paths()["purelib"]
    listed = run(sys.executable, "-S", "-c", _BARE, str(clone), packages, cwd=clone, US43D_HOME=str(home))
    assert "BUSI" in listed


# -S keeps the editable install's finder out, so that only the checkout itself can answer.
_BARE = """
import sys
sys.path[:0] = sys.argv[1:]
sys.argv = ["us43d", "list", "--json"]
import runpy
runpy.run_module("us43d", run_name="__main__")
"""
