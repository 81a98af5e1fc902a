"""A built wheel holds every file of the page."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.mark.slow
def test_a_wheel_holds_the_pages_files(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out.mkdir()
    subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=source, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if "/assets/" in name}
    assets = ROOT / "src" / "parsinet" / "report" / "page" / "assets"
    assert inside == {f"parsinet/report/page/assets/{path.name}" for path in assets.iterdir()}
