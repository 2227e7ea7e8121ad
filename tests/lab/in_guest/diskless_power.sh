#!/bin/sh
# Run by acpid when the power button is pressed.
sync
mount -o remount,ro /
poweroff -f
