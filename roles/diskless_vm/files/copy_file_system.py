# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TYPE DEVICE DIRECTORY: copies what is in the file system of a device into a directory, which is the working directory.

It runs in a mount namespace of its own (unshare --mount). The file system is mounted over the directory, which is still
the working directory, so that all of it is gone with this process, however that ends. What is on it is neither run nor
followed: cp copies links as links.
"""

from __future__ import annotations

import os
import subprocess
import sys

kind, device, directory = sys.argv[1:]
mounted = subprocess.run(["mount", "-t", kind, "-o", "ro,nosuid,nodev,noexec", "--", device, directory], check=False)
if mounted.returncode:
    sys.exit(mounted.returncode)
os.execvp("cp", ["cp", "--archive", "--reflink=auto", "--", directory + "/.", "."])
