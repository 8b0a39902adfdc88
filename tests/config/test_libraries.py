"""Which shared libraries PDFs need, which make them faster, and what is said when they cannot be had."""

import subprocess
from pathlib import Path

import pytest

from config.local import libraries, places
from config.local.progress import Progress

SUBSET = "libharfbuzz-subset.so.0"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """What the dynamic linker finds on a machine that has everything; take away from it. Its ``var`` is empty."""
    there = {*libraries.NEEDED, *libraries.FASTER}
    monkeypatch.setattr(libraries, "loads", lambda name: name in there)
    monkeypatch.setattr(places, "var_dir", lambda: tmp_path)
    return there


def fetched(root: Path) -> None:
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/libharfbuzz-subset.so.0").touch()
    (root / "complete").touch()


def test_a_machine_that_has_all_of_them_is_left_alone(machine: set[str]) -> None:
    assert libraries.environment(Progress()) == {}


@pytest.mark.parametrize("missing", [SUBSET, "libpango-1.0.so.0"])
def test_what_is_missing_is_fetched_once_and_named_to_the_children(
    machine: set[str], missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine.discard(missing)
    calls: list[Path] = []
    monkeypatch.setattr(libraries, "fetch", lambda root: (calls.append(root), fetched(root)))
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)

    first, second = libraries.environment(Progress()), libraries.environment(Progress())

    root = tmp_path / "libraries"
    assert calls == [root]
    assert first == second == {"LD_LIBRARY_PATH": f"{root}/usr/lib", "FONTCONFIG_FILE": f"{root}/fonts.conf"}


@pytest.mark.parametrize(
    ("missing", "said"), [(SUBSET, "PDFs take twice as long"), ("libpango-1.0.so.0", "PDFs cannot be rendered")]
)
def test_without_the_packages_the_product_starts_and_says_what_it_lacks(
    machine: set[str], missing: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_root: Path) -> None:
        raise subprocess.CalledProcessError(100, "apt-get")

    machine.discard(missing)
    monkeypatch.setattr(libraries, "fetch", refuse)

    assert libraries.environment(Progress()) == {}

    output = capsys.readouterr()
    assert said in output.out + output.err
    assert "libharfbuzz-subset0" in output.out + output.err
