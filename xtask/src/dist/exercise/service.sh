# The service on a booted Debian. Ends with the first thing that is not as it should be; says `passed` at last.
set -eu
. /root/words.sh

answers() { for _ in $(seq 60); do ml-ids health >/root/said 2>&1 && return; sleep 0.5; done; return 1; }
property() { systemctl show --property "$1" --value ml-ids; }
state() { sed -n "s/^$1:\t*//p" "/proc/$(property MainPID)/status"; }
ended_well() { [ "$(property Result)" = success ] && [ "$(property ExecMainStatus)" = 0 ]; }

echo 'service'
check 'it starts, confined, and is healthy' answers
[ "$(state NoNewPrivs)" = 1 ] || fail 'it may gain privileges'
[ "$(state Seccomp)" = 2 ] || fail 'its system calls are not filtered'
user=$(id -u ml-ids)
check 'it has become its user' [ "$(state Uid | tr '\t' ' ')" = "$user $user $user $user" ]
check 'it has no capabilities' [ "$(state CapEff)" = 0000000000000000 ]
check 'its log is where the configuration says' test -e /var/log/ml-ids/eve.json
check 'it reloads' systemctl reload ml-ids
check 'it goes on' answers
check 'it stops' systemctl stop ml-ids
check 'it ends well' ended_well

mkdir -p /run/systemd/system/ml-ids.service.d
printf '[Service]\nExecStart=\nExecStart=/usr/bin/ml-ids run --pin --block-dry-run\n' >/run/systemd/system/ml-ids.service.d/pin.conf
systemctl daemon-reload
check 'it starts with --pin and --block-dry-run' systemctl start ml-ids
check 'it is healthy' answers
check 'root sees what it blocks' ml-ids block list
check 'it stops' systemctl stop ml-ids
check 'it ends well' ended_well
check 'its programs stay pinned' sh -c 'ls /sys/fs/bpf/ml-ids/* >/dev/null'
check 'they are unpinned by hand' ml-ids unpin
echo passed
