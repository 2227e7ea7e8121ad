# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""What a task asks of the drives of one VM."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

Told = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class VmSpec:
    """The drives of a VM. C(config): the directory of its definition, absolute.

    C(drives): those that are to be there, as the task describes them; C(absent): ids of those that are not; C(shared):
    ids of those that other VMs may have too. C(shares), C(absent_shares): the same of shares, by their tags. C(lists):
    C(controllers), C(objects), C(nodes), as far as they are given.
    What is None stays as it is. C(timeout): seconds that QEMU has for its proof. C(qmp_socket): of the VM, if it runs;
    C(unplug_timeout): seconds that its guest has to give up drives. C(config_given): the task says where the definition is.
    """

    vm: str
    config: str
    state: str = "present"
    drives: t.Tuple[Told, ...] = ()
    absent: t.Tuple[str, ...] = ()
    shared: t.FrozenSet[str] = frozenset()
    lists: t.Mapping[str, t.Sequence[Told]] = field(default_factory=dict)
    style: t.Optional[str] = None
    lossy: t.Optional[bool] = None
    qemu: t.Optional[str] = None
    machine: t.Optional[str] = None
    arguments: t.Optional[t.Tuple[str, ...]] = None
    purge: bool = False
    validate: str = "device"
    timeout: float = 30.0
    qmp_socket: t.Optional[str] = None
    unplug_timeout: float = 30.0
    config_given: bool = True
    shares: t.Tuple[Told, ...] = ()
    absent_shares: t.Tuple[str, ...] = ()
    boot: t.Optional[Told] = None
    shared_memory: t.Optional[str] = None
