#!/bin/bash
# Boots systemd on a copy of this machine that is thrown away: namespaces of its own, the root file system below an
# overlay whose upper layer is in memory.  $1: an empty directory; the other arguments: directories that are not part of
# the root file system and are needed too.  Ends when the machine does.  Needs root.
set -eu
top=$1
shift
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$top"
mkdir "$top"/{upper,work,root,cgroup}
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" "$top/root"
for directory; do
    mkdir -p "$top/root$directory"
    mount --bind "$directory" "$top/root$directory"
done

# A cgroup of its own, which is the root of the machine's.
mount -t cgroup2 cgroup2 "$top/cgroup"
own="$top/cgroup/tentacle-test-$$"
mkdir "$own"
echo $$ >"$own/cgroup.procs"

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
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    mount -t tmpfs -o mode=0755 tmpfs "$root/run"
    # Only what every machine has: nothing that happens to be installed here is started.
    rm -rf "$root"/etc/systemd/system/*.wants
    cd "$root"
    exec env -i container=ttl PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        chroot . /lib/systemd/systemd --unit=multi-user.target --log-target=journal --show-status=false
'
setpriv --pdeathsig KILL unshare --pid --fork --kill-child --uts --ipc --net --cgroup --mount \
    bash -euc "$boot" bash "$top" &
wait $! || true
echo $$ >"$top/cgroup/cgroup.procs"
find "$own" -depth -type d -exec rmdir {} +
