#!/bin/sh
# The first program of a root tree: says over HTTP what its root is, takes a note, and hears the power button.
export PATH=/bin:/sbin
[ -e /proc/self ] || mount -t proc proc /proc
[ -e /dev/console ] || mount -t devtmpfs devtmpfs /dev
mkdir -p /run/www/cgi-bin
grep ' / ' /proc/mounts | tail -n 1 >/run/www/index.html
cp /note.sh /run/www/cgi-bin/note
# without a bitmap, a leg that was away does not come back by itself
[ ! -e /dev/md0 ] || grep -q bitmap /proc/mdstat || mdadm --grow /dev/md0 --bitmap=internal
acpid -l /dev/console -p /run/acpid.pid
while :; do
    httpd -f -p 80 -h /run/www
    sleep 1
done
