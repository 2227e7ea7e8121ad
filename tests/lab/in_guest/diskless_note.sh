#!/bin/sh
# Over HTTP: writes down what it is asked with, if anything; then says what is written there, and which arrays and disks the guest has.
printf 'Content-Type: text/plain\r\n\r\n'
[ -z "$QUERY_STRING" ] || { echo "$QUERY_STRING" >/note && sync; } || echo "not written"
cat /note /proc/mdstat /proc/partitions 2>/dev/null
