"""Which kernel the guests of the tests boot, where there are several."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.platter.qemu.tests.lab import linux

CLOUD, GENERIC = ("ext4", "nbd"), ("ext4", "nbd", "9p")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that puts a kernel with modules there, as Fedora does."""
    monkeypatch.setattr(linux, "MODULES", tmp_path)

    def install(release: str, modules: tuple[str, ...]) -> Path:
        place = tmp_path / release
        place.mkdir()
        (place / "vmlinuz").touch()
        (place / "modules.builtin").touch()
        (place / "modules.dep").write_text("".join(f"kernel/{name}.ko:\n" for name in modules))
        return place

    return install


def chosen() -> str:
    """Anew at each call."""
    return linux.kernel.__wrapped__()[1].name


def test_of_two_kernels_of_a_version_it_is_the_one_for_clouds(install) -> None:
    cloud, generic = install("6.1.0-56-cloud-amd64", CLOUD), install("6.1.0-56-amd64", GENERIC)
    # whichever is found first
    assert linux._preference((cloud / "vmlinuz", cloud)) > linux._preference((generic / "vmlinuz", generic))
    assert chosen() == "6.1.0-56-cloud-amd64"
    assert linux.kernel_with(("nbd",))[1].name == "6.1.0-56-cloud-amd64"
    assert linux.kernel_with(("nbd", "9p"))[1].name == "6.1.0-56-amd64"


def test_else_it_is_the_newest(install) -> None:
    for release in ("6.1.0-9-amd64", "6.1.0-56-amd64", "6.1.0-10-amd64"):
        install(release, GENERIC)
    assert chosen() == "6.1.0-56-amd64"


def test_a_newer_one_is_not_chosen_before_one_for_clouds(install) -> None:
    install("6.1.0-9-cloud-amd64", CLOUD)
    install("6.12.1-1-amd64", GENERIC)
    assert chosen() == "6.1.0-9-cloud-amd64"
