#!/bin/sh
# Runs what comes over the second serial port, each command once, though it may come again. A command has its number before and
# behind it; "? NUMBER" asks whether that one has come.
export PATH=/sbin:/usr/sbin:/bin:/usr/bin PYTHONDONTWRITEBYTECODE=1
exec 3<>/dev/ttyS1
stty raw -echo <&3
echo "GUEST READY after $(cut -d' ' -f1 /proc/uptime) s" >/dev/console
last=
while read -r number length command again <&3; do
    case "$number" in
        '' | "$last") continue ;;
        '?')
            heard=LOST
            [ "$length" != "$last" ] || heard=HEARD
            printf '%s %s\n' "$heard" "$length" >&3
            continue
            ;;
    esac
    if [ "$number" != "$again" ] || [ "$length" != "${#command}" ]; then
        printf 'GARBLED\n' >&3
        continue
    fi
    last=$number
    echo "$command" | base64 -d >/run/command
    sh /run/command >&3 2>&1 </dev/null 3>&-
    printf 'END %s %s\n' "$number" $? >&3
done
