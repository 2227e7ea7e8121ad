#!/usr/bin/python
# Copyright: the platter.qemu authors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_image: the state of QEMU disk images."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: disk_image
short_description: Create, import, grow, convert, rebase, amend and remove QEMU disk images
version_added: 0.1.0
author:
  - The platter.qemu authors (@platter)
description:
  - Makes disk images be as described, whatever they are now. Creating, importing, growing, converting, rebasing,
    amending and repairing are not things to ask for, but what follows from the description; RV(actions) says which,
    and why.
  - A new image is built in a private directory beside its place, verified, made durable, and only then given its
    name. Whoever looks, at any time, finds the old image or the new one.
  - A format is never guessed for a write, an image in use or with overlays is never changed, and what cannot be
    undone is refused unless its own option agrees to it. A refusal begins with C(refused:) and carries RV(reason) and
    RV(evidence).
  - Many images in one task cost little more than one. See O(images).
requirements:
  - QEMU 5.2 or later (C(qemu-img), for shrinking also C(qemu-io))
options:
  images:
    description:
      - Many images in one task, instead of O(path). Each entry takes the same options; what an entry leaves unset is
        taken from the task.
      - All are planned first, bases before their overlays; if one is refused, none is changed (see O(fail_fast)).
      - With an empty list, as a template may make it, there is nothing to do.
    type: list
    elements: dict
    suboptions:
      path: &path
        description:
          - The image, an absolute path of a file or block device. A symbolic link is followed.
          - On a block device an image is made only while that holds nothing but zeros. To know it, the device is read whole, in
            check mode too, unless something else is found earlier. What is fetched or unpacked for it lies in C(/var/tmp)
            meanwhile. An import to it that was killed or failed is known to the next run (by a note in
            C(/var/lib/platter.qemu)). It refuses to go on from there; with O(source_policy=if_changed) it imports again.
            Formats whose files grow (V(qcow), V(qed), V(vmdk), V(vhdx)) are refused there.
          - Or an NBD export of any host, as a URI (C(nbd://), C(nbd+unix://)) or a blockdev dict with C(driver=nbd).
            C(raw) and C(qcow2) images are made and imported there, not edited or removed. Such an image has no owner
            or mode, and no second name to build under; the source and the export are compared instead, before and
            after, in check mode too. QEMU opens an export as raw bytes only - a C(qcow2) image is built, and compared, in
            C(/var/tmp), where there must be room for it.
          - A fixed part of the name of our temporary files is C(.platter-tmp.); they are removed by the next run for
            the same image.
        type: raw
        aliases: [dest, name]
      state: &state
        description:
          - V(present) - the image is as described; what is not described is left alone.
          - V(absent) - there is no image; all members of a split image are removed.
        type: str
        choices: [present, absent]
      format: &format
        description:
          - The format of the image. Needed for everything but O(state=absent), as a format is never guessed for a
            write.
          - The names are QEMU's. VHD, the disk of Virtual PC and Azure, is V(vpc); Hyper-V's VHDX is V(vhdx).
        type: str
        choices: [raw, qcow, qcow2, qed, vdi, vmdk, vhdx, vpc, parallels, luks]
      size: &size
        description:
          - The virtual size, in bytes or with a unit; C(K M G T P E), with or without C(iB) or C(B), are powers of
            1024.
          - A larger size grows the image. A smaller one needs O(allow_shrink), also for a new overlay that is to be
            smaller than its backing file.
          - Formats round it up, to 512 bytes or (C(vpc)) to a disk geometry; the rounded size counts as equal.
          - Without it a new overlay takes the size of its backing file, and an import that of its source.
        type: str
      max_virtual_size: &max_virtual_size
        description:
          - Refuse an image with a larger virtual size.
          - A source that is not trusted has a limit of 1 TiB when this is not set.
        type: str
      options: &options
        description:
          - Options of the format and of the file, as C(qemu-img create -o) has them, with C(_) for C(-) and C(.).
          - On an image that is there, what C(qemu-img amend) can change is amended and the data is not touched;
            anything else needs O(allow_rewrite). What neither QEMU nor our own record can tell of an image is taken
            as right, and named in RV(unprovable_options).
        type: dict
        suboptions:
          preallocation:
            description:
              - What is allocated at creation - nothing, the metadata, or all of it (by fallocate, or by writing
                zeroes).
              - For raw, qcow2, luks.
            type: str
            choices: [falloc, full, metadata, 'off']
          nocow:
            description:
              - Turn copy-on-write off for the file, on Btrfs.
              - For any format.
            type: bool
          extent_size_hint:
            description:
              - The extent size hint of the file, on XFS.
              - For any format.
            type: str
          encrypt_format:
            description:
              - Encrypt.
              - For qcow, qcow2.
            type: str
            choices: [aes, luks]
          compat:
            description:
              - The version of the format.
              - For qcow2.
            type: str
            choices: ['0.10', '1.1']
          cluster_size:
            description:
              - The size of a cluster.
              - For qcow2, qed, parallels.
            type: str
          lazy_refcounts:
            description:
              - Write reference counts later.
              - For qcow2.
            type: bool
          refcount_bits:
            description:
              - The bits of a reference count.
              - For qcow2.
            type: int
          extended_l2:
            description:
              - Allocate 32 subclusters in a cluster.
              - For qcow2.
            type: bool
          compression_type:
            description:
              - How compressed clusters are compressed.
              - For qcow2.
            type: str
            choices: [zlib, zstd]
          data_file:
            description:
              - The file that holds the data, beside the metadata.
              - For qcow2.
            type: str
          data_file_raw:
            description:
              - Keep the data file readable as raw.
              - For qcow2.
            type: bool
          encrypt_cipher_alg:
            description:
              - The cipher.
              - For qcow2.
            type: str
            choices:
              - aes-128
              - aes-192
              - aes-256
              - cast5-128
              - serpent-128
              - serpent-192
              - serpent-256
              - twofish-128
              - twofish-192
              - twofish-256
          encrypt_cipher_mode:
            description:
              - The cipher's mode.
              - For qcow2.
            type: str
            choices: [cbc, ctr, ecb, xts]
          encrypt_ivgen_alg:
            description:
              - The generator of the IVs.
              - For qcow2.
            type: str
            choices: [essiv, plain, plain64]
          encrypt_ivgen_hash_alg:
            description:
              - The hash of an essiv generator.
              - For qcow2.
            type: str
            choices: [md5, ripemd160, sha1, sha224, sha256, sha384, sha512]
          encrypt_hash_alg:
            description:
              - The hash of PBKDF2.
              - For qcow2.
            type: str
            choices: [md5, ripemd160, sha1, sha224, sha256, sha384, sha512]
          encrypt_iter_time:
            description:
              - The milliseconds that unlocking shall take.
              - For qcow2.
            type: int
          table_size:
            description:
              - The clusters of an L1 or L2 table.
              - For qed.
            type: str
          static:
            description:
              - Allocate all blocks.
              - For vdi.
            type: bool
          subformat:
            description:
              - One file or several, sparse or flat.
              - For vmdk, vhdx, vpc.
            type: str
            choices:
              - dynamic
              - fixed
              - monolithicFlat
              - monolithicSparse
              - streamOptimized
              - twoGbMaxExtentFlat
              - twoGbMaxExtentSparse
          adapter_type:
            description:
              - The virtual adapter.
              - For vmdk.
            type: str
            choices: [buslogic, ide, legacyESX, lsilogic]
          hwversion:
            description:
              - The virtual hardware version.
              - For vmdk.
            type: str
          toolsversion:
            description:
              - The guest tools' version.
              - For vmdk.
            type: str
          compat6:
            description:
              - Hardware version 6; QEMU's old word.
              - For vmdk.
            type: bool
          zeroed_grain:
            description:
              - Mark zeroes in the grain table.
              - For vmdk.
            type: bool
          block_size:
            description:
              - The size of a block; 0 lets QEMU choose by size.
              - For vhdx.
            type: str
          log_size:
            description:
              - The size of the log, whole MiB.
              - For vhdx.
            type: str
          block_state_zero:
            description:
              - Mark new blocks as zero.
              - For vhdx.
            type: bool
          force_size:
            description:
              - The exact size, not the next CHS geometry.
              - For vpc.
            type: bool
          cipher_alg:
            description:
              - The cipher.
              - For luks.
            type: str
            choices:
              - aes-128
              - aes-192
              - aes-256
              - cast5-128
              - serpent-128
              - serpent-192
              - serpent-256
              - twofish-128
              - twofish-192
              - twofish-256
          cipher_mode:
            description:
              - The cipher's mode.
              - For luks.
            type: str
            choices: [cbc, ctr, ecb, xts]
          ivgen_alg:
            description:
              - The generator of the IVs.
              - For luks.
            type: str
            choices: [essiv, plain, plain64]
          ivgen_hash_alg:
            description:
              - The hash of an essiv generator.
              - For luks.
            type: str
            choices: [md5, ripemd160, sha1, sha224, sha256, sha384, sha512]
          hash_alg:
            description:
              - The hash of PBKDF2.
              - For luks.
            type: str
            choices: [md5, ripemd160, sha1, sha224, sha256, sha384, sha512]
          iter_time:
            description:
              - The milliseconds that unlocking shall take.
              - For luks.
            type: int
      backing: &backing
        description:
          - The backing file that makes the image an overlay. The base is never written to.
          - Another base than the present one rebases the overlay, keeping what the guest sees. Internal snapshots in it
            would show other data, so that such an image is refused (C(would_lose_snapshots)).
          - A qcow2 image that has no base is given one with compat 1.1 only.
        type: dict
        suboptions:
          path:
            description:
              - The base, an absolute path. A symbolic link is resolved before it is recorded, so that switching the
                link later does not change what is under the overlay. Another user's link is followed to a file of that
                user's only.
            type: str
            required: true
          format:
            description:
              - The format of the base, which is recorded in the overlay.
            type: str
            choices: [raw, qcow, qcow2, qed, vdi, vmdk, vhdx, vpc, parallels, luks]
            required: true
          relative:
            description:
              - Record the path relative to the directory of the overlay, so that both can be moved together.
            type: bool
            default: false
          rebase:
            description:
              - V(safe) - rebasing copies whatever differs between the bases, so that the guest sees the same.
              - V(unsafe) - only the reference is changed; right only if the new base has the very content of the old
                one.
            type: str
            choices: [safe, unsafe]
            default: safe
          accept_changed:
            description:
              - Accept that the base has changed since the overlay was made, which is refused otherwise (C(base_changed)). Its
                length and its modification time count, so a base that was only touched, or put back without its times, looks
                changed too. What is accepted is remembered.
            type: bool
            default: false
      flatten: &flatten
        description:
          - Copy into the image what it takes from its backing file, so that it stands for itself. What its internal
            snapshots take from there is not copied, so that an image with such is refused (C(would_lose_snapshots)).
        type: bool
      source: &source
        description:
          - Where the content of a new image comes from. It is fetched, verified, inspected, converted if need be, and
            published whole.
        type: dict
        suboptions:
          path:
            description:
              - A file or block device on this host, or a place QEMU reads - an URI (C(nbd://), C(nbd+unix://),
                C(ssh://)) or a blockdev dict.
            type: raw
          url:
            description:
              - An C(http://) or C(https://) URL that is fetched by the module. An interrupted transfer is resumed.
              - Check mode fetches nothing, but asks the server for it (a C(HEAD) request), so that a wrong URL and a file
                that is larger than the free space are refused there too.
            type: str
          format:
            description:
              - The format of the source.
            type: str
            choices: [raw, qcow, qcow2, qed, vdi, vmdk, vhdx, vpc, parallels, luks]
            required: true
          checksum:
            description:
              - C(algorithm:hex), or C(algorithm:URL) of a file with checksums, over the bytes as they are fetched.
              - Not of a source that QEMU reads from another host or an export (NBD, SSH).
            type: str
          compression:
            description:
              - How the source is packed. V(auto) looks at its first bytes. What QEMU reads from another host or an export
                (NBD, SSH) is not unpacked.
            type: str
            choices: [auto, none, gzip, bzip2, xz, zstd]
            default: auto
          trusted:
            description:
              - Read other files that the source refers to (backing files, data files, extents), and formats that are
                seldom checked.
              - Otherwise the source is read by a small parser of our own first, and refused if it refers to anything
                but itself.
            type: bool
            default: false
          headers:
            description:
              - Further HTTP headers. Their values are kept out of logs and results, as one of them may be a token; so a value of
                one or two characters makes a result hard to read.
              - Like user and password they are sent to the host of O(source.url) only, and not without TLS if that has it.
            type: dict
          username:
            description:
              - User name for HTTP basic authentication.
            type: str
          password:
            description:
              - Password for HTTP basic authentication. It is never sent to another host than that of O(source.url).
            type: str
          validate_certs:
            description:
              - Verify the server's certificate.
            type: bool
            default: true
          ca_path:
            description:
              - A file of CA certificates to verify with instead of the system's.
            type: path
          timeout:
            description:
              - Seconds without any answer after which the server is given up.
            type: int
            default: 30
          secret:
            description:
              - The secret that opens an encrypted source (V(luks), which has to be O(source.trusted), or V(qcow2) with
                C(encrypt_format=luks)). It reaches QEMU as a private file only. A source that is not encrypted does not
                need it.
              - The new image is not encrypted by it. O(encryption) says whether that is encrypted, and by which secret.
            type: str
          secret_file:
            description:
              - The same, in a file on the managed host that only its owner can read (mode 0600).
            type: path
      source_policy: &source_policy
        description:
          - V(if_absent) - an image that is there is not imported again. When it is known that it was made from another
            source (its checksum is remembered, and the task names another), there is a warning.
          - V(if_changed) - it is replaced when the source has changed since - another checksum of the same algorithm, or (without
            one) another length or time, or another C(ETag) of the server. What the guest has written is lost then.
            A block device tells no time of its last write, so that without a checksum only its size counts.
          - In an NBD export nothing is remembered, so what is there is compared with the source. When it is something
            else, V(if_absent) refuses, and V(if_changed) writes over it.
        type: str
        choices: [if_absent, if_changed]
      compressed: &compressed
        description:
          - Compress the data on import and rewrite. In qcow2 by zstd, which QEMU reads since 5.1, unless
            C(options.compression_type) says otherwise. Of V(vmdk) only the C(subformat) V(streamOptimized) can.
        type: bool
      encryption: &encryption
        description:
          - The secret of an encrypted image (O(format=luks), or qcow2 with C(options.encrypt_format)), and its key
            slots. Given for a new qcow2 image, it alone makes that an encrypted one - V(luks) is its
            C(options.encrypt_format) then, unless that says otherwise.
          - Whatever changes an encrypted image needs it, shrinking too; that it opens the image is seen before anything is
            done.
        type: dict
        suboptions:
          secret:
            description:
              - The secret that opens the image. It reaches QEMU as a private file only.
            type: str
          secret_file:
            description:
              - A file on this host that holds the secret, readable by its owner only. A newline at its end is part of
                the secret.
            type: path
          keyslots:
            description:
              - LUKS key slots as they should be; others are left alone. A slot is erased only when a secret of the task
                opens one that stays (C(last_keyslot)).
            type: list
            elements: dict
            suboptions:
              slot:
                description:
                  - The number of the slot.
                type: int
                required: true
              state:
                description:
                  - Whether it holds a key.
                type: str
                choices: [present, absent]
                default: present
              new_secret:
                description:
                  - The secret it gets when it is empty. A slot that is in use is left as it is.
                type: str
              new_secret_file:
                description:
                  - A file on this host that holds that secret.
                type: path
      repair: &repair
        description:
          - Check the image on every run and repair what is found.
          - V(leaks) - only give back space that nothing uses. Corruptions are told in a warning, and nothing else is
            written to an image that has some. Where there are both, it is done in a copy, which takes the place of the
            image only if no corruption is left; the old file is kept (RV(backup_file)).
          - V(all) - also repair corruptions, in a copy; the damaged file is kept (RV(backup_file)). Where
            QEMU cannot repair them all, it stays as it is. What is damaged is not rewritten (O(allow_rewrite)) in the
            same task.
          - Without O(repair) an image is not checked, whatever else is changed in it; only one that is marked corrupt is refused.
        type: str
        choices: [leaks, all]
      allow_shrink: &allow_shrink
        description:
          - Agree to a smaller size. Still refused while partitions, a file system or data reach beyond the new end.
          - An import that is smaller than its source needs O(discard_data) too, as where the data in a source ends is not
            looked for. Import it whole, and shrink it in a later task, to have that looked for.
        type: bool
      discard_data: &discard_data
        description:
          - Agree to losing what lies beyond the new end.
        type: bool
      allow_rewrite: &allow_rewrite
        description:
          - Agree to copying the image into a new file where it differs in what cannot be changed in place (another
            format, another cluster size). The copy is compared with the image before it takes its name.
          - An image with internal snapshots or bitmaps is refused, as a copy would not have them; so is an encrypted one
            with several key slots in use (C(would_lose_keyslots)), as a copy has the key of O(encryption) only.
        type: bool
      current_format: &current_format
        description:
          - The format that an image has now which is to be rewritten as O(format).
          - Needed only for images that were not made by this collection, which remembers what it makes. The bytes
            alone do not tell - a guest can write the header of another format into its raw disk, and such a header
            can name any file.
          - So where nothing is remembered, and the bytes say that the image is of O(format) already, the task is refused
            (C(format_mismatch)); leave this option out once an image has been converted by other means. An image that
            is to become V(raw) must name no other file.
        type: str
        choices: [raw, qcow, qcow2, qed, vdi, vmdk, vhdx, vpc, parallels, luks]
      allow_nested_header: &allow_nested_header
        description:
          - Agree that a raw image begins with the signature of another format, as a guest may have written it into its
            disk. It does not count for a source, which has O(source.trusted).
        type: bool
      on_in_use: &on_in_use
        description:
          - What to do when an image that has to be changed is in use (by QEMU, an export, a loop device, a mount, any
            process); or one that has to be checked (O(repair)) while QEMU has it, or its backing file, open for writing.
          - V(fail) - refuse. V(skip) - leave it, with a warning. V(wait) - wait O(wait_timeout) seconds, then refuse.
        type: str
        choices: [fail, skip, wait]
      wait_timeout: &wait_timeout
        description:
          - Seconds that the task waits in all with O(on_in_use=wait).
        type: int
      overlay_directories: &overlay_directories
        description:
          - Further directories in which overlays of the image may lie. Its own directory and those of all images of the
            task are always looked through before a base is changed or removed. In these, block devices count too.
          - Each must be the absolute path of a directory that exists; anything else is refused.
        type: list
        elements: path
      qmp_socket: &qmp_socket
        description:
          - The QMP socket of the QEMU that may have the image open. An image that only grows is then grown by that QEMU, while
            its guest runs, and the guest sees it. If nobody has the image open, the socket need not exist.
          - Anything else that is to change, and an image that something else has open too, is refused as without it
            (C(image_in_use)).
        type: path
      backup: &backup
        description:
          - Keep the file that is replaced or removed under a dated name (RV(backup_file)).
        type: bool
      owner: &owner
        description:
          - The owner of the image and its member files.
        type: str
      group: &group
        description:
          - The group of the image and its member files.
        type: str
      mode: &mode
        description:
          - The permissions, as in M(ansible.builtin.file). A new image has V(0600) when this is not set.
          - Write it in quotes. A number without quotes that is no sensible mode is refused - YAML makes C(01204) in
            octal of V(644).
        type: raw
      seuser: &seuser
        description:
          - The user part of the SELinux context.
        type: str
      serole: &serole
        description:
          - The role part of the SELinux context.
        type: str
      setype: &setype
        description:
          - The type part of the SELinux context.
        type: str
      selevel: &selevel
        description:
          - The level part of the SELinux context.
        type: str
      attributes: &attributes
        description:
          - File attributes as in M(ansible.builtin.file).
        type: str
        aliases: [attr]
  path: *path
  state:
    <<: *state
    default: present
  format: *format
  size: *size
  max_virtual_size: *max_virtual_size
  options: *options
  backing: *backing
  flatten:
    <<: *flatten
    default: false
  source: *source
  source_policy:
    <<: *source_policy
    default: if_absent
  compressed:
    <<: *compressed
    default: false
  encryption: *encryption
  repair: *repair
  allow_shrink:
    <<: *allow_shrink
    default: false
  discard_data:
    <<: *discard_data
    default: false
  allow_rewrite:
    <<: *allow_rewrite
    default: false
  current_format: *current_format
  allow_nested_header:
    <<: *allow_nested_header
    default: false
  on_in_use:
    <<: *on_in_use
    default: fail
  wait_timeout:
    <<: *wait_timeout
    default: 60
  overlay_directories: *overlay_directories
  qmp_socket: *qmp_socket
  backup:
    <<: *backup
    default: false
  owner: *owner
  group: *group
  mode: *mode
  seuser: *seuser
  serole: *serole
  setype: *setype
  selevel: *selevel
  attributes: *attributes
  fail_fast:
    description:
      - With V(true), one refusal or failure stops the task - nothing is begun after a refusal, and no further image
        after a failure.
      - With V(false), the other images are carried out all the same, and the task fails at its end, naming all images
        that were refused or failed.
  tool_timeout:
    description:
      - Seconds after which a program that only inspects an image (C(qemu-img check), C(map), C(measure)) is ended; and one that
        copies or compares (C(convert), C(compare)), when it has done nothing at all for that long, as with a server that
        does not answer any more. How long a copy takes is not limited.
      - Raise it for a C(check) of many TiB on slow disks.
    type: int
    default: 600
extends_documentation_fragment:
  - platter.qemu.attributes
  - platter.qemu.task_options
attributes:
  check_mode:
    support: full
    details: >-
      The images of one task are predicted on each other. What an earlier task of the play would make, a directory or a
      base, is not there in check mode, and is reported as missing; put images that need each other in one task.
  diff_mode: {support: full}
  idempotent: {support: full}
seealso:
  - module: platter.qemu.disk_image_info
  - module: platter.qemu.image_snapshot
  - module: platter.qemu.nbd_export
  - module: platter.qemu.host_device
  - ref: ansible_collections.platter.qemu.docsite.golden_images_and_overlays
    description: Golden images, and the VMs on them.
  - name: qemu-img manual
    description: What the formats and their options mean.
    link: https://www.qemu.org/docs/master/tools/qemu-img.html
notes:
  - Overlays are looked for in the directories of the task and in O(overlay_directories), in the backing chains of the images
    and sources of the task, and where the file itself remembers them (the overlays of external snapshots, the image of a data
    file), and among those that VMs are defined with (M(platter.qemu.qemu_drive)), with what lies below these. An overlay
    elsewhere, or on another host, is not seen.
  - An image that a VM is defined with (M(platter.qemu.qemu_drive)) is not removed, whether the VM runs or not, and no import
    puts another format in its place than the VM expects (C(image_claimed)). The definitions are those of the user who runs the
    task. What only a definition has below an image, as C(backing) or C(data-file) in C(image.blockdev), is not changed either.
    Whatever keeps the disk is allowed; where it becomes another format, a warning names the VM.
  - Where a base that is gone is made anew, a warning names the overlays that are there already. They show wrong data unless it
    has the very content of the one before.
  - Locks of other hosts are not seen on network file systems, and who else uses an NBD export is not seen at all.
  - In a directory that belongs to an ordinary user, root makes, replaces and removes whole images, and sets their owner and mode.
    What would have to be opened by its name there (to grow, amend, rebase, check, repair or rewrite an image, a data file,
    O(attributes)) is refused, as that user can give the name to another file meanwhile. Run such a task as that user
    (C(become_user)).
  - Who can write to an image chooses, by its header, which data file and which backing file are opened with it. When root runs
    the task, these must be files that all others who can write to the image (its owner, and whom mode or ACL let in) can open
    too. A data file must be writable by them, unless O(options.data_file) names it; a backing chain must be readable by them
    where its content is copied (O(flatten), another O(backing), O(allow_rewrite), and O(size) where the image does not end with
    a whole cluster or is to be smaller). Anything else is refused (C(image_references_file)). A group that may also write to
    the directory of the image is trusted.
  - An overlay without a recorded format of its backing file is not opened (C(backing_format_missing)), as QEMU would guess the
    format from what a guest may have written. O(backing) records it.
"""

EXAMPLES = r"""
- name: An empty image of 20 GiB
  platter.qemu.disk_image:
    path: /srv/images/data.qcow2
    format: qcow2
    size: 20G

- name: A golden image, fetched and verified, compressed
  platter.qemu.disk_image:
    path: /srv/images/golden.qcow2
    format: qcow2
    compressed: true
    mode: '0444'
    source:
      url: https://images.example.org/debian-12.qcow2
      format: qcow2
      checksum: sha256:https://images.example.org/SHA256SUMS

- name: An overlay for each VM, in one task
  platter.qemu.disk_image:
    format: qcow2
    size: 40G
    owner: libvirt-qemu
    backing: {path: /srv/images/golden.qcow2, format: qcow2}
    images:
      - path: /srv/images/web1.qcow2
      - path: /srv/images/web2.qcow2
      - {path: /srv/images/db1.qcow2, size: 200G}

- name: A split VMDK from VMware becomes qcow2
  platter.qemu.disk_image:
    path: /srv/images/legacy.qcow2
    format: qcow2
    source:
      path: /var/tmp/legacy/legacy.vmdk
      format: vmdk
      trusted: true # its extents are other files

- name: The same disk for Azure
  platter.qemu.disk_image:
    path: /srv/export/legacy.vhd
    format: vpc
    options: {subformat: fixed, force_size: true}
    source: {path: /srv/images/legacy.qcow2, format: qcow2}

- name: A disk on a storage server, served by NBD, gets the content of the golden image
  platter.qemu.disk_image:
    path: nbd://storage1.example.org/web9
    format: raw
    source: {path: /srv/images/golden.qcow2, format: qcow2}

- name: Old images get the newer qcow2 header; their data is not touched
  platter.qemu.disk_image:
    path: /srv/images/old.qcow2
    format: qcow2
    options: {compat: '1.1', lazy_refcounts: true}

- name: A disk grows while its VM runs
  platter.qemu.disk_image:
    path: /srv/images/web1.qcow2
    format: qcow2
    size: 60G
    qmp_socket: /run/platter/web1.qmp

- name: A VM stands for itself
  platter.qemu.disk_image:
    path: /srv/images/web1.qcow2
    format: qcow2
    flatten: true
    on_in_use: skip
"""

RETURN = r"""
image:
  description: The image as it is now (in check mode, as it would be); after a failure, as it was found then.
  returned: with O(path)
  type: dict
  contains:
    path: {description: Its resolved path., type: str, returned: always}
    state: {description: V(present) or V(absent)., type: str, returned: always}
    format: {description: Its format., type: str, returned: when present}
    virtual_size:
      description: Bytes that the guest sees; null while that cannot be known, before a download.
      type: int
      returned: when present
    options: {description: The options that the task names., type: dict, returned: when the task names some}
    backing: {description: Path and format of the backing file., type: dict, returned: when present}
    keyslots:
      description: Numbers of the active key slots.
      type: list
      elements: int
      returned: when the task names some
    source: {description: Digest of the source it was imported from., type: str, returned: when one was verified}
    leaks: {description: Clusters that nothing uses., type: int, returned: with O(repair) and when there are any}
    corruptions: {description: Corruptions found., type: int, returned: with O(repair) and when there are any}
    base_unchanged:
      description: V(false) when the backing file has changed since the overlay was made.
      type: bool
      returned: when it has
    owner: {description: Owner., type: str, returned: when the task names it}
    group: {description: Group., type: str, returned: when the task names it}
    mode: {description: Permissions., type: str, returned: when the task names it}
  sample:
    path: /srv/images/web1.qcow2
    state: present
    format: qcow2
    virtual_size: 21474836480
    backing: {path: /srv/images/golden.qcow2, format: qcow2}
images:
  description: >-
    One entry for each of O(images), in their order, with the keys RV(image), RV(actions), RV(diff), C(changed) and,
    where it applies, C(failed), C(msg), RV(reason), RV(evidence), RV(skipped_reason), RV(backup_file),
    RV(unprovable_options).
  returned: with O(images)
  type: list
  elements: dict
actions:
  description: What was done (in check mode, would be done), as sentences.
  returned: always
  type: list
  elements: str
  sample: ['Create /srv/images/web1.qcow2 as qcow2 of 20 GiB on /srv/images/golden.qcow2 (qcow2).']
commands:
  description: Every command that was run, as a list of arguments. Secrets are never among them.
  returned: always
  type: list
  elements: list
diff:
  description: The facts of each image before and after.
  returned: always
  type: raw
reason:
  description: A stable code for why a task was refused; docs/reasons lists them.
  returned: when refused
  type: str
  sample: image_in_use
evidence:
  description: The facts behind the refusal.
  returned: when refused
  type: dict
failed_action:
  description: The step at which the work ended.
  returned: when it failed in the middle
  type: str
skipped_reason:
  description: Why an image was left alone.
  returned: with O(on_in_use=skip), when it was in use
  type: str
unprovable_options:
  description: Named options that nothing can confirm for this image, taken as right.
  returned: when there are some
  type: list
  elements: str
backup_file:
  description: The dated name of the file that was replaced or removed.
  returned: with O(backup), or with O(repair=all)
  type: str
method:
  description: How an import got its bytes - reflink, copy_file_range, sendfile, read_write or convert.
  returned: after an import
  type: str
removed_leftovers:
  description: Build directories that an earlier, killed run had left.
  returned: when there were some
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.platter.qemu.plugins.module_utils._image import engine
from ansible_collections.platter.qemu.plugins.module_utils._module import (
    file_attributes,
    image_options,
    run,
    secret_files,
)


def make_engine(module: AnsibleModule) -> engine.ImageEngine:
    """The engine for the images of this task."""
    entries = [secret_files.with_secret_files(module, entry) for entry in image_options.items(module.params)]
    specs = [engine.resolved_spec(entry) for entry in entries]
    return engine.ImageEngine(
        specs,
        file_attributes.FileAttributes(module, {spec.path: entry for spec, entry in zip(specs, entries)}),
        qemu_img=module.get_bin_path("qemu-img"),
        workers=module.params["workers"],
        fail_fast=module.params["fail_fast"],
        lock_timeout=module.params["lock_timeout"],
        tool_timeout=module.params["tool_timeout"],
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=image_options.argument_spec(),
        mutually_exclusive=[("path", "images")],
        required_one_of=[("path", "images")],
        supports_check_mode=True,
    )
    run.run_module(module, make_engine)


if __name__ == "__main__":
    main()
