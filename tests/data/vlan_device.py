#!/usr/bin/env python3
"""vlan_device.py PARENT NAME ID ADDRESS/LEN: an 802.1Q device in user space, for kernels built without one.

A tap interface NAME whose frames go out through PARENT with the tag ID, and the other way round. Runs until killed."""
import fcntl, os, select, socket, struct, subprocess, sys

parent, name, vlan, address = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
SOL_PACKET, PACKET_AUXDATA, PACKET_OUTGOING, TP_STATUS_VLAN_VALID = 263, 8, 4, 0x10
TAG = struct.pack("!HH", 0x8100, vlan)

tap = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
wire.bind((parent, 0))
for command in (["link", "set", name, "mtu", "1496"], ["addr", "add", address, "dev", name], ["link", "set", name, "up"]):
    subprocess.run(["ip", *command], check=True)
print("ready", flush=True)

while True:
    ready, _, _ = select.select([tap, wire], [], [])
    if tap in ready:
        frame = os.read(tap, 65536)
        wire.send(frame[:12] + TAG + frame[12:])
    if wire in ready:
        frame, auxiliary, _, (_, _, kind, _, _) = wire.recvmsg(65536, 256)
        if kind == PACKET_OUTGOING:
            continue
        # The kernel takes the tag out of the frame and hands it over beside it.
        for level, what, data in auxiliary:
            if level == SOL_PACKET and what == PACKET_AUXDATA:
                status, _, _, _, _, tag, _ = struct.unpack("IIIHHHH", data)
                if status & TP_STATUS_VLAN_VALID and tag & 0x0FFF == vlan:
                    os.write(tap, frame)
