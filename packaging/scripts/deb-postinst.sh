#!/bin/sh
set -e
@FUNCTIONS@
case $1 in
configure)
    make_user
    restart_running
    if [ -e /run/tentacle-agent.reinstalled ]; then
        rm -f /run/tentacle-agent.reinstalled
        if systemd_runs; then
            our_units | while IFS= read -r unit; do
                if systemctl is-enabled --quiet -- "$unit" </dev/null; then
                    invoke start "$unit" </dev/null
                fi
            done
        fi
    fi
    if [ -z "$2" ] && [ ! -e /etc/octopus/Tentacle/Instances ]; then
        echo "To set up a worker: tentacle init"
    fi
    ;;
abort-upgrade | abort-remove | abort-deconfigure) ;;
esac
exit 0
