# Boots systemd in the root that is the first argument, with namespaces of its own. Returns when systemd ends.
set -eu
root=$1
# systemd takes the control group that it starts in for the top.
groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[ -n "$groups" ] || { echo 'exercise: no cgroup2 is mounted, and systemd needs one' >&2; exit 1; }
group=$groups/ml-ids-exercise-$$
mkdir "$group"
trap 'find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true' EXIT
# The unquoted part is what runs inside.
sh -c 'echo $$ >"$1/cgroup.procs" && exec timeout --signal KILL 120 unshare --mount --pid --uts --ipc --cgroup --net --fork --kill-child sh -euc "$2" "$0"' \
    "$root" "$group" '
mount --make-rprivate /
mount --bind "$0" "$0"
cd "$0"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
# As systemd does on a machine of its own.
mount -t bpf -o mode=0700 bpf sys/fs/bpf
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=ml-ids PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --log-target=null --show-status=0 --unit=multi-user.target
' </dev/null
