# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a task that changes images, one or many; C(module_utils/_module/task_options.py) has their types."""

from __future__ import annotations


class ModuleDocFragment:
    """For C(extends_documentation_fragment)."""

    DOCUMENTATION = r"""
requirements:
  - Linux 3.15 or later, util-linux
options:
  workers:
    description:
      - How many images are worked on at a time; V(0) lets the module choose.
    type: int
    default: 0
  fail_fast:
    description:
      - With V(true), one refusal stops the task, and nothing is begun. What fails later, such as a download whose checksum is
        another, stops what has not begun by then; the message names what was changed before, and what was not begun.
      - With V(false), the other images are carried out all the same, and the task fails at its end, naming all images
        that were refused or failed.
    type: bool
    default: true
  lock_timeout:
    description:
      - Seconds to wait for another run of this collection that works on the same image.
    type: int
    default: 30
"""
