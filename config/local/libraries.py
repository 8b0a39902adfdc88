"""The shared libraries behind PDF rendering (Pango and its friends), unpacked beside us when the machine lacks them.

Nothing is installed: the distribution's own packages are fetched with apt, unpacked into ``var/libraries``, and named
in the environment of our children. Without apt the product runs, and says what is missing when a PDF is asked for.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from config.local import places
from config.local.progress import Progress

NEEDED = ("libgobject-2.0.so.0", "libpango-1.0.so.0", "libpangoft2-1.0.so.0", "libharfbuzz.so.0", "libfontconfig.so.1")
FASTER = (
    "libharfbuzz-subset.so.0",
)  # without it fonts are cut in Python, which is more than half of drawing an invoice
PACKAGES = ("libpango-1.0-0", "libpangoft2-1.0-0", "libharfbuzz-subset0", "fonts-dejavu-core")
FONT_CONFIG = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{root}/usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{root}/cache</cachedir>
</fontconfig>
"""


def missing(names: Sequence[str] = NEEDED) -> list[str]:
    """Name the libraries that the dynamic linker does not find."""
    return [name for name in names if not loads(name)]


def loads(name: str) -> bool:
    """Tell whether a shared library can be loaded."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def environment(progress: Progress) -> dict[str, str]:
    """Return what our children need to find the libraries; empty when the machine has them."""
    if os.name != "posix" or os.uname().sysname != "Linux" or not missing(NEEDED + FASTER):
        return {}
    root = places.var_dir() / "libraries"
    if not (root / "complete").exists():
        try:
            with progress.step("Pango (for PDFs)"):
                fetch(root)
        except (OSError, subprocess.SubprocessError) as error:
            lost = "cannot be rendered" if missing() else "take twice as long"
            progress.say(f"  PDFs {lost} ({error}). Install: {' '.join(PACKAGES[:3])}")
            return {}
    return paths(root)


def fetch(root: Path) -> None:
    """Download the packages that are not installed and unpack them into ``root``; needs no rights."""
    debs = root / "debs"
    shutil.rmtree(root, ignore_errors=True)
    debs.mkdir(parents=True)
    if os.geteuid() == 0:  # an image often comes without package lists; only root may fetch them
        run(["apt-get", "update", "-qq"], folder=debs)
    plan = run(["apt-get", "install", "--simulate", "-q", "--no-install-recommends", *PACKAGES], folder=debs)
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    if names:
        run(["apt-get", "download", "-qq", *names], folder=debs)
    for deb in debs.glob("*.deb"):
        run(["dpkg-deb", "--extract", str(deb), str(root)], folder=debs)
    (root / "fonts.conf").write_text(FONT_CONFIG.format(root=root))
    (root / "complete").touch()


def run(command: list[str], *, folder: Path) -> str:
    """Run one command to its end and return what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=180)
    return done.stdout


def paths(root: Path) -> dict[str, str]:
    """Return the variables that lead the linker and fontconfig to the unpacked files."""
    folders = sorted({str(file.parent) for file in root.glob("**/lib*.so.*")})
    given = [path for path in [os.environ.get("LD_LIBRARY_PATH", "")] if path]
    return {"LD_LIBRARY_PATH": ":".join([*folders, *given]), "FONTCONFIG_FILE": str(root / "fonts.conf")}
