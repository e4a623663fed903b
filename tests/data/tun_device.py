#!/usr/bin/env python3
"""tun_device.py NAME ADDRESS/LEN...: a tun interface NAME that answers each UDP datagram with itself, ends exchanged.

Runs until killed. Everything else that is sent into it is dropped."""
import fcntl, os, struct, subprocess, sys

name, addresses = sys.argv[1], sys.argv[2:]
TUNSETIFF, IFF_TUN, IFF_NO_PI, UDP = 0x400454CA, 0x0001, 0x1000, 17

tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
for address in addresses:
    subprocess.run(["ip", "addr", "add", address, "dev", name, *(["nodad"] if ":" in address else [])], check=True)
subprocess.run(["ip", "link", "set", name, "up"], check=True)
print("ready", flush=True)

while True:
    packet = bytearray(os.read(tun, 65536))
    # Where the addresses begin, their length, the protocol and where the ports begin. The sums over them stay right.
    if packet[0] >> 4 == 4:
        start, length, protocol, ports = 12, 4, packet[9], (packet[0] & 15) * 4
    else:
        start, length, protocol, ports = 8, 16, packet[6], 40
    if protocol == UDP:
        for at, size in (start, length), (ports, 2):
            packet[at:at + 2 * size] = packet[at + size:at + 2 * size] + packet[at:at + size]
        os.write(tun, packet)
