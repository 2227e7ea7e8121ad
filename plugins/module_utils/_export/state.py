# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What is so: what is declared of an export on the host, and what runs (ExportState); and what was read beside it to
decide (ExportReading).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.platter.qemu.plugins.module_utils._core.header import Header


@dataclass(frozen=True)
class Definition:
    """What the file on the host says of an export. C(argv): the server's command line. C(options): as the task's, and
    as results show them. C(text): the whole file. C(launcher): what stands before C(argv) when it is started,
    and becomes it. C(loader): what is run after each start. C(host): the storage daemon that an export is in.
    """

    argv: t.Tuple[str, ...]
    options: t.Mapping[str, t.Any]
    text: str = ""
    launcher: t.Tuple[str, ...] = ()
    loader: t.Tuple[str, ...] = ()
    host: t.Optional[Definition] = field(default=None, compare=False)

    @property
    def writes(self) -> bool:
        """Whether what clients write reaches the image."""
        return not self.options.get("read_only") and not self.options.get("cow")

    @property
    def daemon(self) -> str:
        """The storage daemon that serves it; empty for a server of its own."""
        return str(self.options.get("daemon", ""))


@dataclass(frozen=True)
class ExportState:
    """The managed part. C(argv): the command line of the server that runs; None: none does.

    C(reachable): somebody listens where the definition says. C(supervised): a server that fails is started again, and
    with systemd also one whose host is. C(supervisor): what it was started by; empty where that has gone. C(at_boot): systemd
    starts it with the host.
    """

    name: str
    definition: t.Optional[Definition] = None
    argv: t.Optional[t.Tuple[str, ...]] = None
    reachable: bool = False
    supervised: bool = False
    supervisor: str = ""
    at_boot: bool = False

    @property
    def running(self) -> bool:
        """Whether a server process is there, whatever it serves."""
        return self.argv is not None

    @property
    def current(self) -> bool:
        """Whether what runs is what is declared."""
        return self.definition is not None and self.argv == self.definition.argv

    def to_facts(self) -> t.Dict[str, t.Any]:
        """The state as results and diffs show it."""
        state = "absent" if self.definition is None else "stopped"
        facts: t.Dict[str, t.Any] = {"name": self.name, "state": "present" if self.running else state}
        if self.definition is not None:
            facts.update(self.definition.options)
        if self.running:
            wrong = {
                "outdated": not self.current,
                "unreachable": not self.reachable,
                "unsupervised": not self.supervised,
            }
            facts.update({key: True for key, is_so in wrong.items() if is_so})
        return facts


class Unit(t.NamedTuple):
    """What systemd says of the unit of an export, in its own words."""

    load: str = "not-found"
    active: str = "inactive"

    @property
    def lively(self) -> bool:
        """Whether systemd runs it, or is about to start it again."""
        return self.active not in ("inactive", "failed")


class Client(t.NamedTuple):
    """Who has a connection to an export. C(pid) None: a process that cannot be seen from here. C(address): by TCP; with
    C(pid) if it is one of this host.
    """

    pid: t.Optional[int]
    comm: str
    address: str = ""

    def to_facts(self) -> t.Dict[str, t.Any]:
        """As results show it."""
        process = {"pid": self.pid, "comm": self.comm} if self.pid or not self.address else {}
        return dict(process, address=self.address) if self.address else process

    def __str__(self) -> str:
        seen = "process %d (%s)" % (self.pid, self.comm) if self.pid else ""
        if self.address:
            return "%s at %s" % (seen, self.address) if seen else self.address
        return seen or "a process that is not seen from here"


class Host(t.NamedTuple):
    """The storage daemon that an export is to be in. C(argv): its command line as it runs, or else as it is declared; empty
    where there is none. C(supervisor): what watches over it. C(others): its exports that this task says nothing of.
    C(clients): who is connected to it, whichever export they use.
    """

    argv: t.Tuple[str, ...] = ()
    supervisor: str = ""
    others: t.Tuple[str, ...] = ()
    clients: t.Tuple[Client, ...] = ()

    def is_another(self, wanted: t.Optional[Definition]) -> bool:
        """Whether it would be started anew to be as C(wanted), the definition of a daemon."""
        if wanted is None or not self.argv:
            return False
        return (self.argv, self.supervisor) != (wanted.argv, wanted.options["supervisor"])


@dataclass(frozen=True)
class ExportReading:
    """Facts that decide but are not managed.

    C(pids): the processes that serve it; C(supervisors): those that watch over them; C(unit): what systemd does about
    it. C(clients): who is connected.
    C(answered): the size of the export as its server says it; None where it was not asked. C(silent): it was asked, and
    did not answer. C(foreign_listener): somebody else listens at the socket that the task names; C(foreign_export): that is
    another export of ours, or a storage daemon (with a colon). C(closing): no process has that listener open any more, as the
    kernel is about to close what a killed server had.
    The rest is about the image: C(target) is the file behind its name.
    """

    pids: t.Tuple[int, ...] = ()
    supervisors: t.Tuple[int, ...] = ()
    clients: t.Tuple[Client, ...] = ()
    answered: t.Optional[int] = None
    silent: bool = False
    foreign_listener: bool = False
    foreign_export: str = ""
    closing: bool = False
    #: (reason, fact, way out)
    socket_problem: t.Optional[t.Tuple[str, str, str]] = None
    #: a digest of the certificates that a server would have now
    certificates: str = ""
    #: what is wrong with the secret of the image
    secret_problem: t.Optional[t.Tuple[str, str, str]] = None
    target: str = ""
    kind: str = "absent"
    header: t.Optional[Header] = None
    length: int = 0
    detected: t.Tuple[str, ...] = ()
    chain_problem: t.Optional[t.Tuple[str, str]] = None
    unit: Unit = field(default_factory=Unit)
    host: Host = field(default_factory=Host)
    #: the storage daemon that it is in, and whether a run that was killed has left nodes of it there, or the daemon itself
    daemon: str = ""
    left: bool = False

    @property
    def watched(self) -> bool:
        """Whether something would start a server again, or is left of an export that nobody is served."""
        return bool(self.supervisors) or self.left or self.unit.lively
