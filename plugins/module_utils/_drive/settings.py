# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The names that tasks use for what QEMU has as properties of devices and options of nodes. Pure."""

from __future__ import annotations

import typing as t

#: of the device: the task's name to QEMU's
OF_DEVICE = {
    "serial": "serial",
    "wwn": "wwn",
    "bootindex": "bootindex",
    "addr": "addr",
    "unit": "unit",
    "index": "index",
    "scsi_id": "scsi-id",
    "lun": "lun",
    "channel": "channel",
    "port": "port",
    "logical_block_size": "logical_block_size",
    "physical_block_size": "physical_block_size",
    "discard_granularity": "discard_granularity",
    "rotation_rate": "rotation_rate",
    "queues": "num-queues",
    "queue_size": "queue-size",
    "iothread": "iothread",
    "share_rw": "share-rw",
    "rerror": "rerror",
    "werror": "werror",
}
#: of the uppermost node that is no filter
OF_NODE = {
    "discard": "discard",
    "detect_zeroes": "detect-zeroes",
    "read_only": "read-only",
    "auto_read_only": "auto-read-only",
    "l2_cache_size": "l2-cache-size",
}
#: of the node with the data
OF_PROTOCOL = {
    "aio": "aio",
    "locking": "locking",
    "reconnect_delay": "reconnect-delay",
    "open_timeout": "open-timeout",
}
OTHERS = (
    "id",
    "image",
    "device",
    "device_id",
    "bus",
    "cache",
    "throttle",
    "copy_on_read",
    "snapshot",
    "encryption",
    "properties",
)
ALL: t.Tuple[str, ...] = (*OTHERS, *OF_DEVICE, *OF_NODE, *OF_PROTOCOL)
#: what a VM's drives are besides: see C(DrivesSpec)
OF_VM = ("drives", "controllers", "objects", "nodes", "machine", "shares", "boot", "shared_memory")
