"""Another version of Python gives the same bytes: every specimen's build, from one raw tree, has the same digest.

The other interpreter is named by the variable US43D_OTHER_PYTHON and must have us43d's dependencies. Builds run in one
process, so that nothing is asked of it but to import modules and work.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import us43d
from us43d import registry

_SCRIPT = """
import json, sys
from pathlib import Path
from us43d import registry
from us43d.harmonize.build import build
from us43d.paths import Home

raw, home = Path(sys.argv[1]), Path(sys.argv[2])
digests = {}
for slug in sorted(path.name for path in raw.iterdir()):
    digests[slug] = build(registry.recipe(slug), raw / slug, Home(home), receipt={"kind": "specimen"}).digest
print(json.dumps([sys.version_info[:2], digests]))
"""


def digests(python: str, raw: Path, home: Path) -> tuple[tuple[int, int], dict[str, str]]:
    """(version, slug → digest) of the builds of `raw`'s trees by an interpreter."""
    done = subprocess.run(
        [python, "-c", _SCRIPT, str(raw), str(home)],
        env=os.environ | {"PYTHONPATH": str(Path(us43d.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (major, minor), found = json.loads(done.stdout.splitlines()[-1])
    return (major, minor), found


@pytest.mark.slow
def test_another_python_gives_the_same_digests(tmp_path: Path) -> None:
    other = os.environ.get("US43D_OTHER_PYTHON")
    if other is None:
        pytest.skip("US43D_OTHER_PYTHON names no other interpreter to compare with")
    for slug in registry.slugs():
        (tmp_path / "raw" / slug).mkdir(parents=True)
        registry.specimen(slug)(tmp_path / "raw" / slug, np.random.default_rng(7), 1)
    here, expected = digests(sys.executable, tmp_path / "raw", tmp_path / "here")
    there, found = digests(other, tmp_path / "raw", tmp_path / "there")
    assert here != there, f"{other} is Python {there[0]}.{there[1]}, as this one"
    assert len(expected) == len(registry.slugs())
    assert found == expected
