# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# PRIVATE to the collection: it can change at any time without notice.
"""The one place that starts threads for the items of a task."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import typing as t

Job = t.TypeVar("Job")
Answer = t.TypeVar("Answer")


def side_by_side(do: t.Callable[[Job], Answer], jobs: t.Sequence[Job], workers: int) -> t.List[Answer]:
    """C(do) of every job, at most C(workers) at a time; the answers in the order of the jobs."""
    if len(jobs) < 2 or workers < 2:
        return [do(job) for job in jobs]
    if sys.version_info < (3, 10):
        _import_everything()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(do, jobs))


def _import_everything() -> None:
    """All that is shipped with the module.

    What is imported where it is used would be imported by several threads at once. From a zip file, as Ansible ships
    modules, Python older than 3.10 does not let the second wait: it gets a module that is half there (zipimporter has
    no exec_module before, and load_module does not mark what it loads).
    """
    package = importlib.import_module(__name__.rpartition("._tools.")[0])
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
