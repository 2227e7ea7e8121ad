# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.

"""What a block device or raw image carries: partition tables, RAID, LVM, LUKS, file systems, swap; and where it ends.

The names of the types are blkid's. Read natively, so that no program has to be there, and for guest views as well.
"""

from __future__ import annotations

import struct
import typing as t
from dataclasses import dataclass

from ansible_collections.platter.qemu.plugins.module_utils._core.errors import HeaderError
from ansible_collections.platter.qemu.plugins.module_utils._core.header import ByteSource
from ansible_collections.platter.qemu.plugins.module_utils._inspect import disk_labels, filesystems, members
from ansible_collections.platter.qemu.plugins.module_utils._tools.files import FileReader
