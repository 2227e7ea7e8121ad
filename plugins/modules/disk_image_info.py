#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_image_info: facts of QEMU disk images."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: disk_image_info
short_description: Facts of QEMU disk images - formats, sizes, backing chains, snapshots, users
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Reads the headers of any number of disk images itself, within fixed limits, and returns what C(qemu-img info) says
    of them, and more - who has them open, what builds on them, what is remembered of them. A thousand images take a
    fraction of a second.
  - Never fails because an image is in use, missing, damaged or not readable; its entry says so in RV(images[].error)
    and RV(images[].reason).
  - Needs C(qemu-img) only for O(check), O(measure), O(map) and for places that are no files of the host. Where it is
    missing, those answers are unavailable, and the rest is there all the same.
  - Use P(platter.qemu.select_images#filter) to pick images out of the result.
requirements:
  - Linux 3.15 or later
  - QEMU 5.2 or later (C(qemu-img)) for O(check), O(measure), O(map) and remote places
options:
  paths:
    description:
      - The images - absolute paths of files or block devices, URIs (C(nbd://), C(nbd+unix://), C(ssh://), C(http://),
        C(https://)) or blockdev dicts.
      - An empty list is no error; it gives no images.
      - A file that does not exist is no error; its entry has RV(images[].exists=false).
      - Of a split image, name the descriptor; its other files are its RV(images[].members).
    type: list
    elements: raw
  directory:
    description:
      - Every file and block device in this directory, also behind symbolic links, is taken as an image, after those
        in O(paths).
      - The further files of a split image are not listed on their own, nor are files of this collection.
      - A directory that does not exist or cannot be read gives a warning.
    type: path
  recurse:
    description: >-
      Whether directories below O(directory) are searched too. Symbolic links to directories are not followed.
    type: bool
    default: false
  patterns:
    description: Only files in O(directory) whose names match one of these shell patterns.
    type: list
    elements: str
    default: ['*']
  format:
    description:
      - Declares the format of all images of the task; an image that reads as another one has
        RV(images[].reason=format_mismatch).
      - It is seldom needed. Without it an image has the format that P(platter.qemu.disk_image#module) remembers, else
        the one that its bytes have, else V(raw), and then RV(images[].format_is_certain) is V(false), for a guest can
        write any bytes.
      - For a place that is no file of the host, qemu-img finds the format out when this is not set.
    type: str
    choices: [raw, qcow, qcow2, qed, vdi, vmdk, vhdx, vpc, parallels, luks]
  in_use:
    description: Whether to look who uses each image (RV(images[].in_use_by)).
    type: bool
    default: true
  backing_chain:
    description: Whether to follow the backing files of each image down to its base (RV(images[].backing_chain)).
    type: bool
    default: false
  dependents:
    description:
      - Whether to look which images have an image as their backing or data file (RV(images[].dependents)).
      - They are looked for in the directories of the images and in O(overlay_directories).
    type: bool
    default: false
  overlay_directories:
    description:
      - Further directories in which dependents are looked for. Turns O(dependents) on.
      - Each must be the absolute path of a directory that exists; anything else is refused.
    type: list
    elements: path
  check:
    description:
      - Whether to look for leaked clusters and corruptions (RV(images[].check)). Nothing is repaired.
      - It reads all metadata of an image, so it takes its time. An image that is being written is not checked.
    type: bool
    default: false
  measure:
    description: Tells the bytes that a file of this format with the same content needs (RV(images[].measure)).
    type: str
    choices: [raw, qcow2, luks]
  map:
    description: >-
      Whether to add up what kind of data each image holds by itself, without its backing file (RV(images[].map)).
    type: bool
    default: false
  features:
    description: Whether to return what can be done with which format (RV(features)).
    type: bool
    default: false
  workers:
    description: How many images qemu-img is asked about at a time; V(0) is one for each processor.
    type: int
    default: 0
  tool_timeout:
    description:
      - Seconds after which C(qemu-img check), C(map) and C(measure) are ended; the answer is then C(unavailable).
    type: int
    default: 600
extends_documentation_fragment:
  - platter.qemu.attributes
attributes:
  check_mode:
    support: full
    details: >-
      Nothing is ever changed, not even access times of images whose owner or C(root) asks. What O(check), O(map) and
      O(measure) read keeps them where C(root) asks and may mount file systems, which many containers do not allow.
  diff_mode: {support: none, details: There is no change to show.}
  idempotent: {support: full}
seealso:
  - module: platter.qemu.disk_image
  - plugin: platter.qemu.select_images
    plugin_type: filter
  - name: qemu-img manual
    description: What the facts mean.
    link: https://www.qemu.org/docs/master/tools/qemu-img.html
notes:
  - In names of files, and names in images, what is not UTF-8 is shown as U+FFFD.
  - Users on other hosts are seen only through QEMU's lock, and not at all on file systems without common locks.
  - Opening an image here never opens another file, except its own members beside it, and with O(backing_chain),
    O(measure) its backing files, with O(check), O(measure), O(map) its data file and extents, if they are files or
    block devices.
"""

EXAMPLES = r"""
- name: One image
  platter.qemu.disk_image_info:
    paths: [/srv/images/web1.qcow2]
  register: web1

- name: Refuse to go on while it is in use
  ansible.builtin.assert:
    that: not web1.images[0].in_use_by
    fail_msg: "In use by {{ web1.images[0].in_use_by | map(attribute='name') | join(', ') }}"

- name: All images of a host with their chains
  platter.qemu.disk_image_info:
    directory: /srv/images
    recurse: true
    patterns: ['*.qcow2', '*.vmdk']
    backing_chain: true
  register: all

- name: Which of them are larger than 100 GiB
  ansible.builtin.debug:
    msg: "{{ all | platter.qemu.select_images('[?virtual_size > `107374182400`].path') }}"

- name: Which images would break without the golden image
  platter.qemu.disk_image_info:
    paths: [/srv/images/golden.qcow2]
    overlay_directories: [/srv/images, /srv/more-images]
  register: golden

- name: Look for damage, and for the room that a compacted copy needs
  platter.qemu.disk_image_info:
    paths: [/srv/images/web1.qcow2]
    check: true
    measure: qcow2

- name: An export of an NBD server
  platter.qemu.disk_image_info:
    paths: ['nbd://storage1.example.org/web1']
    format: raw

- name: Formats that can be compressed on this host
  platter.qemu.disk_image_info:
    features: true
  register: here

- name: Show them
  ansible.builtin.debug:
    msg: "{{ here.features | dict2items | selectattr('value.compression') | map(attribute='key') }}"
"""

RETURN = r"""
images:
  description: One entry for each image, in the order of O(paths), then those of O(directory) by name.
  returned: always
  type: list
  elements: dict
  contains:
    path: {description: The path or place., type: str, returned: always}
    exists: {description: Whether it is there; null where that cannot be told., type: bool, returned: always}
    error:
      description: Why it cannot be read or is not what was declared.
      type: str
      returned: when there is a problem
    reason:
      description:
        - A stable code for RV(images[].error) - V(not_a_file), V(unreadable), V(header_unreadable), V(bad_size),
          V(image_damaged), V(format_mismatch), V(format_ambiguous), V(vmdk_extent), V(member_missing) or V(tool_missing).
      type: str
      returned: when there is a problem
    detected:
      description: The formats that the bytes look like; V(raw) is never among them.
      type: list
      elements: str
      returned: when they look like something else than RV(images[].format)
    format: {description: Its format., type: str, returned: when it could be read}
    format_is_certain:
      description: V(false) for a raw image that is neither declared nor remembered as raw.
      type: bool
      returned: when it could be read
    virtual_size: {description: Bytes that the guest sees., type: int, returned: when it could be read}
    actual_size:
      description: Bytes that it takes on the host, with all its members, without its data file.
      type: int
      returned: when it is a file or block device that can be opened
    cluster_size:
      description: Bytes of a cluster; null where there are none.
      type: int
      returned: when it could be read
    backing:
      description: The backing file, null without one.
      type: dict
      returned: when it could be read
      contains:
        path: {description: Its full path (or what names it if it is no file)., type: str, returned: always}
        format: {description: Its format as recorded; null where that is missing., type: str, returned: always}
        name: {description: Its name as it stands in the image., type: str, returned: always}
    base_changed:
      description: Whether the backing file has changed since the overlay was made; null where that is not remembered.
      type: bool
      returned: when it has a backing file
    backing_chain:
      description: The image, its backing file, and so on down to the base, as far as it can be followed.
      type: list
      elements: dict
      returned: with O(backing_chain), when it could be read
      contains:
        path: {description: The path., type: str, returned: always}
        format: {description: The format., type: str, returned: always}
        virtual_size: {description: Bytes that the guest sees., type: int, returned: always}
        actual_size: {description: Bytes on the host., type: int, returned: always}
        problem:
          description:
            - Null, or the C(reason) and C(message) why the chain ends here - V(backing_loop), V(base_missing),
              V(chain_too_long), V(backing_not_regular), V(image_damaged), V(header_unreadable), V(backing_protocol).
          type: dict
          returned: always
    data_file: {description: The external data file of a qcow2 image., type: str, returned: when it could be read}
    encrypted: {description: Whether it is encrypted., type: bool, returned: when it could be read}
    compressed: {description: Whether it is a compressed VMDK., type: bool, returned: when it could be read}
    dirty: {description: Whether it was not closed cleanly., type: bool, returned: when it could be read}
    corrupt: {description: Whether QEMU has marked it as corrupt., type: bool, returned: when it could be read}
    options:
      description: >-
        The create options it has, by the names of O(platter.qemu.disk_image#module:options), seen or remembered.
      type: dict
      returned: when it could be read
    snapshots:
      description: Internal snapshots.
      type: list
      elements: dict
      returned: when it could be read
      contains:
        id: {description: Its id., type: str, returned: always}
        name: {description: Its name., type: str, returned: always}
        vm_state_size: {description: Bytes of saved VM state., type: int, returned: always}
        date:
          description: When it was taken, ISO 8601 in UTC; null where that is not known.
          type: str
          returned: always
        date_sec: {description: The same in seconds since 1970., type: int, returned: always}
        date_nsec: {description: The nanoseconds of that time., type: int, returned: always}
        vm_clock_nsec: {description: How long the guest had run in nanoseconds., type: int, returned: always}
        icount: {description: The guest's instruction count., type: int, returned: always}
        virtual_size: {description: Bytes that the guest saw then., type: int, returned: always}
    bitmaps:
      description: Persistent dirty bitmaps.
      type: list
      elements: dict
      returned: when it could be read
      contains:
        name: {description: Its name., type: str, returned: always}
        granularity: {description: Bytes for each bit., type: int, returned: always}
        flags: {description: V(in-use) and V(auto)., type: list, elements: str, returned: always}
    external_snapshot:
      description: The external snapshot that the file is, as P(platter.qemu.image_snapshot#module) remembers it.
      type: dict
      returned: when it is one
      contains:
        name: {description: Its name., type: str, returned: always}
        date:
          description: When it was taken, ISO 8601 in UTC; null where that is not known.
          type: str
          returned: always
        date_sec: {description: The same in seconds since 1970., type: int, returned: always}
    extents:
      description: The files of a split VMDK as its descriptor has them.
      type: list
      elements: dict
      returned: when it is one
      contains:
        path: {description: The file., type: str, returned: always}
        access: {description: 'V(RW), V(RDONLY) or V(NOACCESS).', type: str, returned: always}
        kind: {description: 'V(SPARSE), V(FLAT) and others.', type: str, returned: always}
        virtual_size: {description: Bytes of the disk in it., type: int, returned: always}
        offset: {description: Where they begin in it., type: int, returned: always}
    members:
      description: The files that are the image, the one in RV(images[].path) first.
      type: list
      elements: str
      returned: when it is more than one file
    references:
      description: >-
        Everything outside itself that opening the image would open, as the image has it (C(kind), C(target)).
      type: list
      elements: dict
      returned: when there is any
    unknown_features:
      description: Features that only a newer QEMU knows.
      type: list
      elements: str
      returned: when there are some
    format_specific:
      description: What else C(qemu-img info) has under C(format-specific), with C(_) for C(-).
      type: dict
      returned: when there is something else
    remembered:
      description: >-
        What M(platter.qemu.disk_image) remembers of it - C(format), C(options), C(source) with its digest, C(base).
      type: dict
      returned: when it remembers anything
    in_use_by:
      description: Everybody who uses it, this task excepted.
      type: list
      elements: dict
      returned: with O(in_use), when it is a file or block device
      contains:
        kind:
          description: V(process), V(loop), V(mount), V(swap), V(md), V(dm), V(qemu_lock) or V(kernel).
          type: str
          returned: always
        pid: {description: The process., type: int, returned: always}
        name: {description: The program or device., type: str, returned: always}
        writes: {description: Whether it can write; null where that cannot be told., type: bool, returned: always}
        detail: {description: More about the use., type: str, returned: always}
    consistent:
      description: V(false) while somebody who has it open for writing may change what was just read.
      type: bool
      returned: with O(in_use), when it is a file or block device
    dependents:
      description: The images that have it as their backing or data file.
      type: list
      elements: str
      returned: with O(dependents), when it is a file or block device
    check:
      description:
        - C(check_errors), C(corruptions), C(leaks), C(image_end_offset), C(total_clusters), C(allocated_clusters),
          C(fragmented_clusters), C(compressed_clusters).
        - Or C(unavailable), a sentence, and C(reason), its code.
      type: dict
      returned: with O(check), when it could be read
    measure:
      description:
        - C(format), C(required) bytes, C(fully_allocated) bytes with preallocation.
        - Or C(unavailable) and C(reason).
      type: dict
      returned: with O(measure), when it could be read
    map:
      description:
        - Bytes of the guest's disk that are C(data), C(compressed) data, C(zero), or C(unallocated) in this image.
        - Or C(unavailable) and C(reason).
      type: dict
      returned: with O(map), when it could be read
  sample:
    - path: /srv/images/web1.qcow2
      exists: true
      format: qcow2
      format_is_certain: true
      virtual_size: 21474836480
      actual_size: 200704
      cluster_size: 65536
      backing: {path: /srv/images/golden.qcow2, format: qcow2, name: golden.qcow2}
      base_changed: false
      in_use_by: []
      consistent: true
features:
  description:
    - What QEMU can do with each format, by its name - C(create), C(backing) (formats of the backing file),
      C(encryption), C(compression), C(preallocation), C(sparse), C(split), C(internal_snapshots), C(bitmaps),
      C(check), C(repair), C(grow), C(shrink), C(external_data_file), C(amend) (options), C(options), C(legacy) (why
      not to make new ones).
    - C(installed) tells whether the QEMU of this host has the format at all; null without qemu-img.
  returned: with O(features)
  type: dict
qemu_version:
  description: The version of qemu-img, null without it.
  returned: with O(check), O(measure), O(map), O(features), or a place that is no file of the host
  type: str
  sample: 7.2.22
commands:
  description: Every command that was run, as a list of arguments.
  returned: always
  type: list
  elements: list
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._formats import registry
from ansible_collections.platter.qemu.plugins.module_utils._image import info, info_spec
from ansible_collections.platter.qemu.plugins.module_utils._module.run_info import run_info

ARGUMENT_SPEC = {
    "paths": {"type": "list", "elements": "raw"},
    "directory": {"type": "path"},
    "recurse": {"type": "bool", "default": False},
    "patterns": {"type": "list", "elements": "str", "default": ["*"]},
    "format": {"type": "str", "choices": list(registry.FORMAT_NAMES)},
    "in_use": {"type": "bool", "default": True},
    "backing_chain": {"type": "bool", "default": False},
    "dependents": {"type": "bool", "default": False},
    "overlay_directories": {"type": "list", "elements": "path"},
    "check": {"type": "bool", "default": False},
    "measure": {"type": "str", "choices": ["raw", "qcow2", "luks"]},
    "map": {"type": "bool", "default": False},
    "features": {"type": "bool", "default": False},
    "workers": {"type": "int", "default": 0},
    "tool_timeout": {"type": "int", "default": 600},
}


def make_reader(module: AnsibleModule) -> info.ImageInfoReader:
    """The reader for the images of this task."""
    return info.ImageInfoReader(info_spec.InfoSpec.from_params(module.params), module.get_bin_path("qemu-img"))


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_one_of=[("paths", "directory", "features")],
        supports_check_mode=True,
    )
    run_info(module, make_reader)


if __name__ == "__main__":
    main()
