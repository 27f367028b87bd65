#!/usr/bin/env bash
# Installs what `make packages` and `make test-packages` need of a Debian beside Python.
set -euo pipefail

wanted=(ansible-core binutils cloud-init createrepo-c crun debootstrap dnf lintian mmdebstrap python3-apt python3.11 rpm rpmlint skopeo umoci)
missing=()
for package in "${wanted[@]}"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
done
((${#missing[@]})) || exit 0
if [[ $(id -u) != 0 ]]; then
    echo "Missing: ${missing[*]} (names of Debian's packages)" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
