"""Writes a capture of an office that somebody scans: `office.py FILE SEED`.

Sixty conversations of clients in 10.0.0.0/24 with the web server 10.0.0.5, and in the second half of the time a scan of
that server by 203.0.113.9: sixty ports, each answered by a reset. Another seed is another day. Frames are written with
their real lengths, payloads are zeros and checksums are left out.
"""
import random
import struct
import sys

SERVER, SCANNER = "10.0.0.5", "203.0.113.9"
CONVERSATIONS = 60
#: 2024-05-01T10:00:00Z, in microseconds.
START = 1_714_557_600_000_000
SYN, ACK, PSH, FIN, RST = 0x02, 0x10, 0x08, 0x01, 0x04


def frame(source, destination, ports, flags, payload=0):
    """One TCP segment in IPv4 in Ethernet."""
    address = lambda text: bytes(map(int, text.split(".")))
    tcp = struct.pack("!HHIIBBHHH", *ports, 1, 1 if flags & ACK else 0, 5 << 4, flags, 64240, 0, 0) + bytes(payload)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0) + address(source) + address(destination)
    return bytes.fromhex("020000000005 020000000001 0800".replace(" ", "")) + ip + tcp


def conversation(dice, at):
    """A page that is asked for and sent: (time, frame) each."""
    client, ports = f"10.0.0.{dice.randrange(10, 250)}", (dice.randrange(32768, 60000), 443)
    there = lambda flags, payload=0: frame(client, SERVER, ports, flags, payload)
    back = lambda flags, payload=0: frame(SERVER, client, ports[::-1], flags, payload)
    yield at, there(SYN)
    yield (at := at + dice.randrange(200, 30_000)), back(SYN | ACK)
    yield (at := at + 50), there(ACK)
    for _ in range(dice.randrange(1, 5)):
        yield (at := at + dice.randrange(100, 200_000)), there(ACK | PSH, dice.randrange(80, 900))
        for _ in range(dice.randrange(2, 12)):
            yield (at := at + dice.randrange(20, 5_000)), back(ACK, 1448)
            yield (at := at + 30), there(ACK)
    yield (at := at + dice.randrange(100, 9_000)), there(ACK | FIN)
    yield (at := at + 200), back(ACK | FIN)
    yield at + 60, there(ACK)


def probe(dice, at, port):
    """A closed port that is tried."""
    ports = (dice.randrange(32768, 60000), port)
    yield at, frame(SCANNER, SERVER, ports, SYN)
    yield at + dice.randrange(20, 400), frame(SERVER, SCANNER, ports[::-1], RST | ACK)


def main():
    path, seed = sys.argv[1], int(sys.argv[2])
    dice = random.Random(seed)
    packets = []
    for number in range(CONVERSATIONS):
        packets += conversation(dice, START + number * 1_000_000)
        packets += probe(dice, START + (CONVERSATIONS + number) * 500_000, 1 + number * 17)
    packets.sort(key=lambda packet: packet[0])
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for time, data in packets:
            out.write(struct.pack("<IIII", *divmod(time, 1_000_000), len(data), len(data)) + data)


main()
