#!/bin/sh
# The guest's first program: loads modules, names ports, starts the agent, then runs what comes over the second serial port.
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
exec 3<>/dev/ttyS1
stty raw -echo <&3
echo "GUEST READY after $(cut -d' ' -f1 /proc/uptime) s"
while read -r number command <&3; do
    echo "$command" | base64 -d >/run/command
    sh /run/command >&3 2>&1 </dev/null 3>&-
    printf 'END %s %s\n' "$number" $? >&3
done
