"""The folders, the package list and the start-up are what pyproject.toml and the design say."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAPPED = {"recipes": "us43d.recipes", "cli": "us43d.cli", "manifests": "us43d.manifests"}


def python(code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd="/", env={**os.environ, **env}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_package_of_the_tree_is_listed() -> None:
    found = {"us43d"}
    for top, name in {"us43d": "us43d", **MAPPED}.items():
        for init in (ROOT / top).rglob("__init__.py"):
            rest = init.parent.relative_to(ROOT / top).parts
            found.add(".".join((name, *rest)))
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("name", ["torch", "pandas", "numpy", "cv2", "SimpleITK", "requests", "pyarrow", "nibabel"])
def test_listing_needs_nothing_heavy(name: str) -> None:
    code = (
        "import sys, importlib; from us43d import registry; [r.name for r in registry.recipes()];"
        f"importlib.import_module('us43d.cli.app').app; print({name!r} in sys.modules)"
    )
    assert python(code) == "False"


def test_every_verb_is_registered_by_the_module_listed() -> None:
    code = (
        "import importlib; cli = importlib.import_module('us43d.cli.app'); commands = cli.app.registered_commands;"
        "modules = {c.name: c.callback.__module__.rpartition('.')[2] for c in commands};"
        "print(sorted(modules.items() ^ cli._MODULES.items()))"
    )
    assert python(code) == "[('review', 'review'), ('weights', 'weights')]"  # groups of verbs


def test_listing_imports_no_recipe_and_no_other_verb() -> None:
    code = (
        "import sys, importlib; sys.argv = ['us43d', 'list', '--quiet'];"
        "importlib.import_module('us43d.cli.app').main();"
        "others = ('us43d.recipes.', 'us43d.cli.train', 'us43d.cli.fetch');"
        "print([name for name in sys.modules if name.startswith(others)])"
    )
    assert python(code).splitlines()[-1] == "[]"


def test_finding_one_recipe_imports_no_other() -> None:
    code = (
        "import sys; from us43d import registry; registry.find('BUSI');"
        "print(sorted(m for m in sys.modules if m.startswith('us43d.recipes.')))"
    )
    assert python(code) == "['us43d.recipes.busi']"


def test_training_needs_no_curation_packages() -> None:
    code = (
        "import sys, importlib, pkgutil\n"
        "for room in ('pictures', 'coco', 'model', 'evaluate', 'train'):\n"
        "    package = importlib.import_module('us43d.' + room)\n"
        "    for m in pkgutil.iter_modules(package.__path__):\n"
        # A plug-in that pydicom loads, and the writer of COCO files, whom training never imports.
        "        if m.name not in ('codecs', 'write'): importlib.import_module(f'us43d.{room}.{m.name}')\n"
        "heavy = {'nibabel', 'SimpleITK', 'pycocotools', 'requests', 'pandas', 'typer', 'us43d.registry'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert python(code) == "[]"
