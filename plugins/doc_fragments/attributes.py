# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules promise; each says itself how far it keeps that (C(support)), and what is special (C(details))."""

from __future__ import annotations


class ModuleDocFragment:
    """For C(extends_documentation_fragment)."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Nothing on the host is written, and what would be done is predicted.
  diff_mode:
    description: Shows the facts of each image before and after.
  idempotent:
    description: The second run changes nothing.
  platform:
    support: full
    platforms: linux
    description: The managed host runs Linux.
"""
