#!/bin/busybox sh
# First and only process tree of the test machine: runs the sensor under traffic and writes down what happened, a line an
# observation, on the second serial port. It judges nothing; vm_test/judge.rs does.
/bin/busybox --install -s /bin 2> /dev/null
export PATH=/bin RUST_LOG=info,verdict=warn
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /run /tmp /www
ulimit -c 0

say() { echo "$*" > /dev/ttyS1; }
# Each line of a file, with a word before it.
tell() { [ -f "$2" ] && sed "s/^/$1 /" "$2" > /dev/ttyS1; }
here() { timeout "$@"; }
there() { nsenter -t "$PEER" -n timeout "$@"; }

say kernel "$(uname -r)"
for module in /modules/*.ko; do insmod "$module" || say note "$module is not loaded"; done

# A host (us, near) and a peer in a namespace of its own (far). No addresses but ours, so that no packet is sent unasked.
unshare -n sleep 100000 &
PEER=$!
sleep 0.2
iproute link add near type veth peer name far netns "$PEER"
iproute link set lo up
iproute link set near addrgenmode none up
iproute address add 10.9.0.1/24 dev near
iproute address add fd09::1/64 dev near nodad
there 5 iproute link set lo up
there 5 iproute link set far addrgenmode none up
there 5 iproute address add 10.9.0.2/24 dev far
there 5 iproute address add fd09::2/64 dev far nodad
echo hello > /www/small
dd if=/dev/zero of=/www/large bs=1k count=512 2> /dev/null
httpd -p 8080 -h /www
there 5 httpd -p 8080 -h /www

# What the interface has counted: packets received and sent; and what the peer has received over IPv4, super-packets as the
# segments that they stand for.
interface() {
    statistics=/sys/class/net/near/statistics
    say interface "$(cat $statistics/rx_packets) $(cat $statistics/tx_packets)"
    say peer "$(there 5 awk '/^IpExt:/ && !n {n = split($0, name)} /^IpExt: [0-9]/ {
        for (i = 1; i <= n; i++) if (name[i] == "InNoECTPkts") print $i}' /proc/net/netstat)"
}

# Where the next conversation comes from: every one from ports of its own. On a mirror port, where one direction is seen
# alone, a flow does not end with its connection, and a port that is used again would continue it.
port=20000
ports() { "$1" 5 sh -c "echo $2 $3 > /proc/sys/net/ipv4/ip_local_port_range" || say note "no ports $2 to $3"; }

fetch() {
    ports "$1" $port $((port + 1))
    "$1" 20 wget -q -O /dev/null "http://$2:8080/$3" || say note "no answer from $2 to $1"
    ports "$1" 32768 60999
    port=$((port + 2))
}

conversations() {
    here 20 ping -q -c 5 -i 0.1 10.9.0.2 > /dev/null || say note "no answer to ping"
    here 20 ping6 -q -c 3 -i 0.1 fd09::2 > /dev/null || say note "no answer to ping6"
    for _ in 1 2 3 4; do fetch here 10.9.0.2 small; fetch there 10.9.0.1 small; done
    fetch here "[fd09::2]" small
    fetch there "[fd09::1]" small
    # Datagrams to ports where nobody listens, answered by ICMP errors.
    here 20 traceroute -n -q 3 -m 1 -w 1 10.9.0.2 > /dev/null 2>&1
    there 20 traceroute -n -q 3 -m 1 -w 1 10.9.0.1 > /dev/null 2>&1
}

settled() { sleep 1.5; }

# phase NAME: a sensor from start to end, in attach mode NAME.
phase() {
    say phase "$1"
    rm -rf /logs
    ml-ids run -i near --attach "$1" --listen 127.0.0.1:8000 --log-dir /logs --log-negative-predictions \
        > /tmp/stdout 2> /tmp/log &
    sensor=$!
    tries=0
    until wget -q -O /dev/null http://127.0.0.1:8000/health/ready 2> /dev/null; do
        tries=$((tries + 1))
        if [ $tries -gt 120 ] || ! kill -0 $sensor 2> /dev/null; then break; fi
        sleep 0.5
    done
    settled
    say health "$(wget -q -O - http://127.0.0.1:8000/health)"
    interface
    conversations
    settled
    say health "$(wget -q -O - http://127.0.0.1:8000/health)"
    interface
    # Super-packets: the stack hands over 64 KiB at a time, which leave in segments.
    fetch there 10.9.0.1 large
    settled
    say health "$(wget -q -O - http://127.0.0.1:8000/health)"
    interface
    kill -TERM $sensor 2> /dev/null
    wait $sensor
    say exit $?
    tell log /tmp/log
    for file in /logs/*.log; do tell flow "$file"; done
}

ml-ids bench verify --json > /tmp/verify 2> /tmp/verify.log || say note "bench verify failed"
tell verify /tmp/verify
sed "s,^,note ," /tmp/verify.log > /dev/ttyS1
phase host
phase mirror
say done
sync
poweroff -f
