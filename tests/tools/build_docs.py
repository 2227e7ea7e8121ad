"""Builds the HTML documentation of the collection into .build/docs/html, with antsibull-docs and Sphinx."""

from __future__ import annotations

import shutil
import subprocess

from environment import isolated
from paths import BUILD
from pythons import matrix
from trees import link_checkout
from venvs import ensure_venv

SITE = BUILD / "docs"
COLLECTION = ["--use-current", "--fail-on-error", "--squash-hierarchy"]


def _run(environment: dict[str, str], *command: str) -> None:
    subprocess.run(["env", *command], check=True, stdin=subprocess.DEVNULL, env=environment, cwd=SITE)


def _make_site(environment: dict[str, str]) -> None:
    """A Sphinx site of our collection. antsibull-docs wants directories that only their owner can write."""
    shutil.rmtree(SITE, ignore_errors=True)
    (SITE / "rst").mkdir(mode=0o700, parents=True)
    SITE.chmod(0o700)
    titles = ["--project", "platter.qemu", "--title", "platter.qemu", "--copyright", "the platter.qemu authors"]
    _run(environment, "antsibull-docs", "sphinx-init", *COLLECTION, *titles, "--dest-dir", ".", "platter.qemu")
    pages = ["--cleanup", "everything", "--dest-dir", "rst", "platter.qemu"]
    _run(environment, "antsibull-docs", "--config-file", "antsibull-docs.cfg", "collection", *COLLECTION, *pages)


def _faults() -> list[str]:
    """What Sphinx complained of in our pages. Offline it cannot know the labels of other sites."""
    lines = (SITE / "warnings.txt").read_text().splitlines()
    offline = any("failed to reach any of the inventories" in line for line in lines)
    ours = [line for line in lines if line.startswith(str(SITE))]
    return [line for line in ours if not (offline and "undefined label" in line)]


def main() -> None:
    """Make the site, build it, say where it is."""
    core, version = matrix()[0]
    programs = ensure_venv(BUILD / f"venv-docs-{version}", version, [f"core-{core}", "runtime", "docs"])
    environment = isolated(programs, link_checkout(), "home-docs")
    _make_site(environment)
    _run(environment, "sphinx-build", "-q", "-c", ".", "-d", "doctrees", "-w", "warnings.txt", "rst", "html")
    if _faults():
        raise SystemExit("\n".join(["the documentation has faults:", *_faults()]))
    print(f"open {SITE / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
