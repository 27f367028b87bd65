#!/bin/sh
# $1: "install" or "upgrade"; $2: the version that was there.
set -e
if [ "$1" = install ] && [ -n "$2" ]; then
    # Removed before, and its configuration is still here: postinst starts what was at work then.
    touch /run/tentacle-agent.reinstalled
fi
exit 0
