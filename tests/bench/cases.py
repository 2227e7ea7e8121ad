"""What is measured, and against what."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

COLLECTIONS = Path(__file__).resolve().parents[2] / ".build" / "collections"
MANY, FACTS = 100, 1000
MIB = 1 << 20


def run(*argv: object, quiet: bool = True) -> None:
    """A program that must succeed."""
    command = [str(word) for word in argv]
    done = subprocess.run(
        command, stdout=subprocess.PIPE if quiet else None, stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError("%s\n%s\n%s" % (command, done.stdout, done.stderr))


def play(directory: Path, name: str, *tasks: t.Mapping[str, t.Any]) -> None:
    """A playbook of these tasks on this machine, without facts."""
    book = directory / (name + ".json")
    if not book.exists():
        header = {"hosts": "localhost", "connection": "local", "gather_facts": False}
        header["vars"] = {"ansible_python_interpreter": "/usr/bin/python3"}
        book.write_text(json.dumps([dict(header, tasks=list(tasks))]))
    run(Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", book)


class Case:
    """One comparison. C(speedup): the ratio is theirs / ours and must reach the goal; else ours / theirs, at most."""

    name = ""
    goal = 1.0
    speedup = True

    def prepare(self, directory: Path) -> None:
        """Once, before all rounds."""

    def before_ours(self, directory: Path) -> None:
        """Before each of our runs, not timed."""

    def before_theirs(self, directory: Path) -> None:
        """Before each of their runs, not timed."""

    def ours(self, directory: Path) -> None:
        """Timed."""
        raise NotImplementedError

    def theirs(self, directory: Path) -> None:
        """Timed."""
        raise NotImplementedError

    def compare(self, directory: Path) -> None:
        """Raises when the two have not done the same."""

    def clean(self, directory: Path) -> None:
        """Once, after all rounds."""


def fresh(directory: Path) -> Path:
    """The directory for images, emptied."""
    images = directory / "images"
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir()
    return images


def names(directory: Path, count: int = MANY) -> t.List[str]:
    """Paths of many images."""
    return ["%s/images/%04d.qcow2" % (directory, number) for number in range(count)]


def our_task(directory: Path) -> t.Dict[str, t.Any]:
    """Many images in one task of ours."""
    return {
        "platter.qemu.disk_image": {"format": "qcow2", "size": "10G", "images": [{"path": p} for p in names(directory)]}
    }


class _CreateMany(Case):
    def before_ours(self, directory: Path) -> None:
        fresh(directory)

    def ours(self, directory: Path) -> None:
        play(directory, "ours", our_task(directory))
        self.made = len(list((directory / "images").iterdir()))

    def before_theirs(self, directory: Path) -> None:
        fresh(directory)

    def compare(self, directory: Path) -> None:
        images = sorted((directory / "images").iterdir())
        assert len(images) == self.made == MANY
        run("qemu-img", "check", "-q", "-f", "qcow2", images[-1])


class CreateAgainstLoop(_CreateMany):
    """What most people write."""

    name = "100 creates in one task / command loop"
    goal = 15

    def theirs(self, directory: Path) -> None:
        loop = {"command": {"argv": ["qemu-img", "create", "-q", "-f", "qcow2", "{{ item }}", "10G"]}}
        play(directory, "loop", dict(loop, loop=names(directory)))


class CreateAgainstShell(_CreateMany):
    """What the impatient write: one shell script."""

    name = "100 creates in one task / one shell script"
    goal = 0.9
    speedup = False

    def theirs(self, directory: Path) -> None:
        script = "for n in $(seq -w 0 99); do qemu-img create -q -f qcow2 %s/images/00$n.qcow2 10G; done" % directory
        play(directory, "shell", {"shell": script})


class AgainAgainstLoop(Case):
    """The nightly run that changes nothing."""

    name = "100 images, nothing to do / loop with creates:"
    goal = 25

    def prepare(self, directory: Path) -> None:
        fresh(directory)
        play(directory, "ours", our_task(directory))

    def ours(self, directory: Path) -> None:
        play(directory, "ours", our_task(directory))

    def theirs(self, directory: Path) -> None:
        loop = {"command": {"argv": ["qemu-img", "create", "{{ item }}", "10G"], "creates": "{{ item }}"}}
        play(directory, "loop", dict(loop, loop=names(directory)))


class AgainAgainstNothing(AgainAgainstLoop):
    """How much of it is Ansible's own."""

    name = "100 images, nothing to do / empty playbook"
    goal = 2.0
    speedup = False

    def theirs(self, directory: Path) -> None:
        play(directory, "empty")


class NoChangeAgainstStat(AgainAgainstLoop):
    """The price of one task over the cheapest one there is."""

    name = "one image, nothing to do / ansible.builtin.stat"
    goal = 1.3
    speedup = False

    def prepare(self, directory: Path) -> None:
        fresh(directory)
        self.ours(directory)

    def ours(self, directory: Path) -> None:
        task = {"path": names(directory)[0], "format": "qcow2", "size": "10G"}
        play(directory, "one", {"platter.qemu.disk_image": task})

    def theirs(self, directory: Path) -> None:
        play(directory, "stat", {"ansible.builtin.stat": {"path": names(directory)[0]}})


class Facts(Case):
    """Facts of many images inside a running module, as a playbook has it, against one process for each."""

    name = "1000 image facts in one call / 1000 qemu-img info"
    goal = 40

    def prepare(self, directory: Path) -> None:
        images = fresh(directory)
        run("qemu-img", "create", "-q", "-f", "qcow2", images / "0000.qcow2", "10G")
        for path in names(directory, FACTS)[1:]:
            shutil.copyfile(images / "0000.qcow2", path)

    def ours(self, directory: Path) -> None:
        from ansible_collections.platter.qemu.tests.lab.modules import call

        self.found = call("disk_image_info", paths=names(directory, FACTS))["images"]

    def theirs(self, directory: Path) -> None:
        self.asked = []
        for path in names(directory, FACTS):
            command = ["qemu-img", "info", "-f", "qcow2", "--output=json", path]
            self.asked.append(json.loads(subprocess.check_output(command)))

    def compare(self, directory: Path) -> None:
        ours = [(each["path"], each["virtual_size"], each["cluster_size"], each["actual_size"]) for each in self.found]
        theirs = [(x["filename"], x["virtual-size"], x["cluster-size"], x["actual-size"]) for x in self.asked]
        assert ours == theirs


class _Import(Case):
    """Data that does not compress, C(data) MiB of it, in a raw image of four times the size."""

    speedup = False
    data = 1024

    def place(self, directory: Path) -> Path:
        return fresh(directory)

    def prepare(self, directory: Path) -> None:
        self.images = self.place(directory)
        self.source, self.target, self.copy = (str(self.images / name) for name in ("source", "target", "copy"))
        with open(self.source, "wb") as stream:
            stream.truncate(4 * self.data * MIB)
            for place in range(0, 4 * self.data, 4):
                stream.seek(place * MIB)
                stream.write(os.urandom(MIB))
        run("sync")

    def _remove(self) -> None:
        for path in (self.target, self.copy):
            if os.path.exists(path):
                os.unlink(path)
        run("sync")

    def before_ours(self, directory: Path) -> None:
        self._remove()

    def before_theirs(self, directory: Path) -> None:
        run("sync")

    def ours(self, directory: Path) -> None:
        from ansible_collections.platter.qemu.tests.lab.modules import call

        source = {"path": self.source, "format": "raw"}
        result = call("disk_image", path=self.target, format="raw", source=source)
        assert result.get("changed"), result

    def compare(self, directory: Path) -> None:
        assert filecmp.cmp(self.target, self.copy, shallow=False)


class ImportAgainstCopy(_Import):
    """Both end on stable storage."""

    name = "import, 1 GiB of data / cp and sync"
    goal = 1.1

    def theirs(self, directory: Path) -> None:
        run("cp", "--sparse=auto", self.source, self.copy)
        run("sync", self.copy)


class ImportOnReflink(_Import):
    """On a file system that shares extents: XFS on a loop device. What ours costs does not depend on the amount."""

    name = "import on a reflink file system, 4 GiB / cp and sync"
    data = 4096
    goal = 100
    speedup = True

    def place(self, directory: Path) -> Path:
        disk, images = directory / "xfs.raw", fresh(directory)
        run("truncate", "-s", "20G", disk)
        run("mkfs.xfs", "-q", "-m", "reflink=1", disk)
        run("mount", "-o", "loop", disk, images)
        return images

    def theirs(self, directory: Path) -> None:
        run("cp", "--reflink=never", "--sparse=auto", self.source, self.copy)
        run("sync", self.copy)

    def clean(self, directory: Path) -> None:
        run("umount", directory / "images")


class Compressed(Case):
    """A golden image of real files, those of /usr/lib; ours may be 2 % larger at most."""

    name = "compressed golden image / qemu-img convert -c"
    goal = 5

    def prepare(self, directory: Path) -> None:
        self.images = fresh(directory)
        self.source, self.target, self.plain = (str(self.images / name) for name in ("source", "target", "plain"))
        run("truncate", "-s", "1G", self.source)
        with open(self.source, "r+b") as stream:
            for path in sorted(Path("/usr/lib").rglob("*")):
                if path.is_file() and not path.is_symlink() and stream.tell() < 300 * MIB:
                    stream.write(path.read_bytes()[: 20 * MIB])

    def before_ours(self, directory: Path) -> None:
        if os.path.exists(self.target):
            os.unlink(self.target)

    def ours(self, directory: Path) -> None:
        from ansible_collections.platter.qemu.tests.lab.modules import call

        source = {"path": self.source, "format": "raw"}
        result = call("disk_image", path=self.target, format="qcow2", compressed=True, source=source)
        assert result.get("changed"), result

    def theirs(self, directory: Path) -> None:
        run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", self.source, self.plain)
        run("sync", self.plain)

    def compare(self, directory: Path) -> None:
        run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", self.target, self.plain)
        assert os.stat(self.target).st_size <= 1.02 * os.stat(self.plain).st_size


class SnapshotsAgainstLoop(Case):
    """A point to go back to on every disk of a host."""

    name = "50 snapshots in one task / command loop"
    goal = 0.15
    speedup = False
    count = 50

    def _images(self, directory: Path) -> None:
        fresh(directory)
        for path in names(directory, self.count):
            run("qemu-img", "create", "-q", "-f", "qcow2", path, "10G")

    def before_ours(self, directory: Path) -> None:
        self._images(directory)

    def ours(self, directory: Path) -> None:
        images = [{"image": path} for path in names(directory, self.count)]
        play(directory, "ours", {"platter.qemu.image_snapshot": {"format": "qcow2", "name": "s1", "snapshots": images}})
        self.made = self._taken(directory)

    def before_theirs(self, directory: Path) -> None:
        self._images(directory)

    def theirs(self, directory: Path) -> None:
        loop = {"command": {"argv": ["qemu-img", "snapshot", "-c", "s1", "{{ item }}"]}}
        play(directory, "loop", dict(loop, loop=names(directory, self.count)))

    def compare(self, directory: Path) -> None:
        assert self.made == self._taken(directory) == ["s1"] * self.count

    def _taken(self, directory: Path) -> t.List[str]:
        """The snapshots of all images by qemu-img's account."""
        found = []
        for path in names(directory, self.count):
            command = ["qemu-img", "info", "-f", "qcow2", "--output=json", path]
            told = json.loads(subprocess.check_output(command))
            found += [each["name"] for each in told.get("snapshots", [])]
        return found


CASES: t.Sequence[Case] = (
    Facts(),
    CreateAgainstLoop(),
    CreateAgainstShell(),
    AgainAgainstLoop(),
    AgainAgainstNothing(),
    SnapshotsAgainstLoop(),
    NoChangeAgainstStat(),
    ImportOnReflink(),
    ImportAgainstCopy(),
    Compressed(),
)
