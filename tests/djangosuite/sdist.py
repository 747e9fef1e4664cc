"""The source distribution of a Django version, which carries its tests."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import django

CACHE = Path(__file__).parent / ".cache"


def unpacked(version: str | None = None) -> Path:
    """Return the unpacked sdist of the installed Django, or of another version ("4.2.*").

    It is kept in `.cache/`; a version with a star is looked up each time.
    """
    wanted = version or django.__version__
    folder = CACHE / f"django-{wanted}"
    if folder.is_dir():
        return folder
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", ":all:", "--dest", work, f"django=={wanted}"]
        subprocess.run(command, check=True)
        (archive,) = Path(work).glob("*.tar.gz")
        # Not by tarfile, whose safe filter is not in the Python 3.11.2 of Debian 12.
        subprocess.run(["tar", "-xf", archive, "-C", work], check=True)
        (tree,) = (path for path in Path(work).iterdir() if path.is_dir())
        target = CACHE / tree.name.lower()
        if not target.exists():
            tree.rename(target)  # last: what bears the name is whole
    return target
