#!/bin/sh
set -e
@FUNCTIONS@
case $1 in
# Scripts that run are left alive here too, and their results are kept for an agent that is installed again.
remove | deconfigure) stop_all ;;
upgrade | failed-upgrade) ;;
esac
exit 0
