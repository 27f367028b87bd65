#!/bin/bash
# Boots systemd on a copy of a machine that is thrown away: namespaces of its own, the root file system below an overlay
# whose upper layer is in memory.  $1: an empty directory; $2: the root directory of the machine, / for this one; the
# other arguments: directories that are not part of it and are needed too.  Ends when the machine is switched off; after
# a reboot it is booted again.  Needs root.
set -eu
top=$1 of=$2
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$top"
mkdir "$top"/{upper,work,root,cgroup}
mount -t overlay overlay -o "lowerdir=$of,upperdir=$top/upper,workdir=$top/work" "$top/root"
# Before the directories that are needed: one of them, this checkout say, may be in /tmp.
mount -t tmpfs -o mode=1777 tmpfs "$top/root/tmp"
for directory; do
    mkdir -p "$top/root$directory"
    mount --bind "$directory" "$top/root$directory"
done

# A cgroup that is the root of the machine's, with nobody from outside in it.
mount -t cgroup2 cgroup2 "$top/cgroup"
own="$top/cgroup/tentacle-test-$$"
mkdir "$own"

boot='
    root=$1/root
    ip link set lo up
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
    for name in null zero full random urandom tty; do
        touch "$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    mount -t tmpfs -o mode=0755 tmpfs "$root/run"
    if [ "$2" = / ]; then
        # Only what every machine has: nothing that happens to be installed here is started.
        rm -rf "$root"/etc/systemd/system/*.wants
        # Nor are the workers of this machine those of the other.
        rm -rf "$root"/etc/octopus "$root"/etc/systemd/system/{tentacle,Tentacle}*.service*
    fi
    # Not chroot: the kernel lets nobody who is in one make a user namespace.
    cd "$root"
    pivot_root . .
    umount -l .
    # As it is where systemd is not told that it is in a container: credentials of units reach them by this.
    mount --make-rshared /
    exec env -i container=ttl PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --unit=multi-user.target --log-target=journal --show-status=false
'
enter='echo 0 >"$2/cgroup.procs"; exec unshare --cgroup bash -euc "$3" bash "$1" "$4"'
trap 'kill -KILL "$inner"' TERM
# The kernel ends the first process of a namespace by SIGHUP when it asks for a reboot.
code=129
while ((code == 129)); do
    setpriv --pdeathsig KILL unshare --pid --fork --kill-child --uts --ipc --net --mount \
        bash -euc "$enter" bash "$top" "$own" "$boot" "$of" &
    inner=$!
    wait "$inner" && code=0 || code=$?
done
wait "$inner" 2>/dev/null || true
for _ in {1..100}; do
    find "$own" -depth -type d -exec rmdir {} + 2>/dev/null && break
    sleep 0.05
done
