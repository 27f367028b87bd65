# Finds the services that run this program: `tentacle service` has written their units.  What starts the scripts of one
# has a unit beside it, which is started, stopped and restarted with it.
our_units() {
    for unit_file in /etc/systemd/system/*.service; do
        case $unit_file in *@scripts.service) continue ;; esac
        if [ -f "$unit_file" ] && grep -qs '^ExecStart="\{0,1\}/usr/bin/[Tt]entacle[" ]' "$unit_file"; then
            printf '%s\n' "${unit_file##*/}"
        fi
    done
}

systemd_runs() {
    [ -d /run/systemd/system ]
}

# Debian's own way also asks the host's policy whether services may be started now.
invoke() {
    if command -v deb-systemd-invoke >/dev/null; then
        deb-systemd-invoke "$@" || echo "The service could not be made to $1; see: systemctl status" >&2
    else
        systemctl "$@" || echo "The service could not be made to $1; see: systemctl status" >&2
    fi
}

make_user() {
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers tentacle-agent.conf
    fi
    if command -v systemd-tmpfiles >/dev/null; then
        systemd-tmpfiles --create tentacle-agent.conf
    fi
}

# Scripts run on: the agent that is started takes them over.
restart_running() {
    systemd_runs || return 0
    systemctl daemon-reload || true
    our_units | while IFS= read -r unit; do
        if systemctl is-active --quiet -- "$unit" </dev/null; then
            invoke restart "$unit" </dev/null
        fi
    done
}

stop_all() {
    systemd_runs || return 0
    our_units | while IFS= read -r unit; do
        if systemctl is-active --quiet -- "$unit" </dev/null; then
            invoke stop "$unit" </dev/null
        fi
    done
}
