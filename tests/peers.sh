#!/usr/bin/env bash
# Installs what the tests need beside Python: programs of other makes, which a real machine would have between or beside an
# agent and its server.  Without root, or on a system that is not Debian's, it says what is missing and goes on: the tests that
# need it then fail and name it.
set -euo pipefail

missing=()
need() { # need PATH-OR-COMMAND PACKAGE
    if [[ $1 == /* ]]; then [[ -e $1 ]]; else PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; fi || missing+=("$2")
}
need openssl openssl
need curl curl
need promtool prometheus
need jq jq
need zsh zsh
need fish fish
# To boot a systemd for the tests of the service (tests/e2e/machine.py).
need systemctl systemd
need dbus-daemon dbus
need ip iproute2
need useradd passwd
need setpriv util-linux
need ps procps
# A machine that is a worker without an agent (tests/e2e/sshd.py).
need /usr/sbin/sshd openssh-server
need ssh-keygen openssh-client
# Beside which the benchmarks put the agent.
need rsync rsync
# What scripts may do under a confined agent (tests/e2e/test_two_units.py).
need sudo sudo
need node nodejs
# The pages of the embedded server (tests/devserver/page).
need /usr/bin/chromium chromium
# Between an agent and its server (tests/e2e/neighbours.py).
need /usr/sbin/squid squid
need /usr/sbin/nginx nginx-light
need /usr/lib/nginx/modules/ngx_stream_module.so libnginx-mod-stream

((${#missing[@]})) || exit 0
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "Missing for the tests: ${missing[*]} (names of Debian's packages)" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
