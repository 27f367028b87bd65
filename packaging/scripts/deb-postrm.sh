#!/bin/sh
set -e
@FUNCTIONS@
# The files of instances: what the agent and servers make in the home, when that is beside the configuration.
remove_instance() { # remove_instance CONFIGURATION
    home=${1%/*}
    applications=$(sed -n 's/^application-directory: //p' "$1" | head -n 1)
    if [ "$(readlink -f "$home")" != "$home" ]; then
        echo "$home is a link or lies behind one, and stays." >&2
        return 0
    fi
    if sed -n 's/^home: //p' "$1" | grep -qvFx -e "$home" -e ""; then
        echo "The home of $1 is another directory, which stays: $(sed -n 's/^home: //p' "$1")"
    else
        for name in @NAMES@; do
            rm -rf "${home:?}/$name" || echo "$home/$name stays." >&2
        done
        rm -f "$home"/@ISOLATION_LOCKS@*.lock
    fi
    rm -f "$1" "$1".*
    # Where a key is that the service's user may not open (tentacle/settings/key_places.py).
    digest=$(printf '%s' "$1" | sha256sum | cut -c 1-8)
    for key in /etc/credstore/tentacle-*-"$digest".key /etc/credstore.encrypted/tentacle-*-"$digest".key; do
        [ -f "$key" ] || continue
        rm -f "$key"
        rmdir --ignore-fail-on-non-empty "${key%/*}" || true
    done
    rmdir --ignore-fail-on-non-empty "$home" || true
    case $applications in
    /*) # What was deployed is not ours; a directory that holds nothing is.
        if [ -d "$applications" ] && [ ! -L "$applications" ]; then
            rmdir --ignore-fail-on-non-empty "$applications" || true
            parent=${applications%/*}
            case $parent in "" | /home | /srv | /opt | /var/*) ;; *) rmdir --ignore-fail-on-non-empty "$parent" || true ;; esac
        fi
        ;;
    esac
}

purge() {
    our_units | while IFS= read -r unit; do
        scripts=${unit%.service}@scripts
        for file in "$unit" "$scripts.service" "$scripts.socket"; do
            rm -rf "/etc/systemd/system/$file" "/etc/systemd/system/$file.d"
        done
        find /etc/systemd/system -mindepth 2 -maxdepth 2 -type l -name "$(printf '%s' "$unit" | sed 's/\\/\\\\/g')" -delete
    done
    registry=/etc/octopus/Tentacle/Instances
    for entry in "$registry"/*.config; do
        [ -f "$entry" ] || continue
        config=$(sed -n 's/^ *"ConfigurationFilePath": *"\(.*\)".*$/\1/p' "$entry" | head -n 1)
        # An instance of the original Tentacle has its name here too, and is not ours.
        if [ -f "$config" ] && head -n 1 "$config" | grep -q '^# Configuration of a Tentacle instance'; then
            remove_instance "$config"
            rm -f "$entry"
        elif [ ! -e "$config" ] && [ -n "$config" ]; then
            rm -f "$entry"
        fi
    done
    for directory in "$registry" /etc/octopus/Tentacle /etc/octopus; do
        if [ -d "$directory" ]; then
            rmdir --ignore-fail-on-non-empty "$directory" || true
        fi
    done
    # The account stays, so that nobody gets its number while files of it are left; it cannot log in.
    rm -rf /var/lib/tentacle
}

case $1 in
purge) purge ;;
esac
if systemd_runs; then
    systemctl daemon-reload || true
fi
exit 0
