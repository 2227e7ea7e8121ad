#!/bin/sh
# The guest's first program: loads modules, names ports, starts the agent, then runs what it is told to, or has systemd do that.
/bin/busybox --install -s /bin
export PATH=/sbin:/usr/sbin:/bin:/usr/bin PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
ln -s /proc/self/mounts /etc/mtab
while read -r module; do insmod "/modules/$module"; done </modules/order
mkdir -p /dev/virtio-ports /mnt
for port in /sys/class/virtio-ports/*; do ln -s "/dev/${port##*/}" "/dev/virtio-ports/$(cat "$port/name")"; done
[ -e /dev/virtio-ports/org.qemu.guest_agent.0 ] && qemu-ga --daemonize --logfile=/run/qemu-ga.log --statedir=/run
[ -e /dev/vda ] && [ -d /disk ] && mount -t ext4 /dev/vda /disk && mount -o bind /disk/units /etc/systemd/system
[ -d /disk/lib ] && mkdir -p /var/lib/platter && mount -o bind /disk/lib /var/lib/platter
[ -x /usr/lib/systemd/systemd ] && exec /usr/lib/systemd/systemd
exec /bin/sh /shell.sh
