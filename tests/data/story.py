"""story.py FILE: ten minutes of a small network as a pcap: benign traffic, and over it a port scan, a sweep, two brute forces and a flood.

Standard library only; the same bytes every time. Packet sizes, flags and paces are those that nmap (-sT), patator and Hulk leave
behind. docs/ALERTS.md is what `ml-ids score FILE --alerts` makes of it, and `ml-ids demo` replays it.
"""
import random
import struct
import sys

START = 1_790_000_000.0
MINUTES = 10
SYN, FIN, RST, PSH, ACK = 2, 1, 4, 8, 16

CLIENTS = [f"10.1.0.{host}" for host in range(20, 30)]
RESOLVER, PROXY = "10.1.0.2", "198.51.100.80"
SERVER, FILES, SHOP = "10.1.0.10", "10.1.0.12", "10.1.0.14"
SCANNER, SWEEPER, GUESSER, FLOODER = "203.0.113.9", "203.0.113.40", "203.0.113.77", "203.0.113.150"

dice = random.Random(7)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(source, target, protocol, segment):
    addresses = bytes(int(part) for address in (source, target) for part in address.split("."))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0x4000, 64, protocol, 0) + addresses
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return bytes([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]) + head + segment


def tcp(source, target, flags, size=0, window=229, options=b""):
    (address, port), (peer, peer_port) = source, target
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack("!HHIIBBHHH", port, peer_port, 1, 1, offset, flags, window, 0, 0)
    return frame(address, peer, 6, head + options + b"x" * size)


def udp(source, target, size):
    (address, port), (peer, peer_port) = source, target
    return frame(address, peer, 17, struct.pack("!HHHH", port, peer_port, 8 + size, 0) + b"x" * size)


MSS = bytes([2, 4, 5, 180])
HELLO = MSS + bytes([4, 2, 8, 10] + [0] * 8 + [1, 3, 3, 7])
STAMPS = bytes([1, 1, 8, 10] + [0] * 8)


class Conversation:
    """One TCP connection, its packets in order."""

    def __init__(self, at, client, server, window):
        self.at, self.client, self.server, self.window = at, client, server, window
        self.packets = []
        self.send(0, SYN, window=29200, options=HELLO)
        self.answer(0.00008, SYN | ACK, window=28960, options=HELLO)
        self.send(0.0003, ACK)

    def send(self, after, flags, size=0, window=229, options=STAMPS):
        self.at += after
        self.packets.append((self.at, tcp(self.client, self.server, flags, size, window, options)))

    def answer(self, after, flags, size=0, window=None, options=STAMPS):
        self.at += after
        window = self.window if window is None else window
        self.packets.append((self.at, tcp(self.server, self.client, flags, size, window, options)))


def lookup(at, client, port):
    """Two questions and two answers."""
    source, target = (client, port), (RESOLVER, 53)
    name, delay = dice.randrange(28, 48), dice.uniform(0.0002, 0.04)
    times = [at, at + 0.000004, at + delay, at + delay + 0.0002]
    ends = [(source, target, name)] * 2 + [(target, source, name + dice.randrange(16, 120))] * 2
    return [(time, udp(*end)) for time, end in zip(times, ends)]


def visit(at, client, port):
    """A page over TLS, kept open for a while."""
    talk = Conversation(at, (client, port), (PROXY, 443), 122)
    talk.send(0.0004, PSH | ACK, dice.randrange(180, 230))
    talk.answer(0.012, ACK)
    for size in (1448, 1448, dice.randrange(400, 1300)):
        talk.answer(0.0001, PSH | ACK, size)
        talk.send(0.0001, ACK)
    talk.send(0.003, PSH | ACK, 126)
    talk.answer(0.012, PSH | ACK, 51)
    for _ in range(dice.randrange(2, 6)):
        talk.send(dice.uniform(0.1, 2.0), PSH | ACK, dice.randrange(300, 900))
        talk.answer(0.02, PSH | ACK, dice.randrange(300, 1400))
        talk.send(0.0002, ACK)
    talk.send(dice.uniform(3, 20), PSH | ACK, 31)
    talk.send(0.00005, FIN | ACK)
    talk.answer(0.011, FIN | ACK)
    talk.send(0.0001, ACK)
    return talk.packets


def probe(at, scanner, target, port):
    """A SYN and the refusal."""
    source = (scanner, 46031)
    yield at, tcp(source, (target, port), SYN, window=29200, options=HELLO)
    yield at + dice.uniform(0.00004, 0.00006), tcp((target, port), source, RST | ACK, window=0)


def guess_ssh(at, port):
    """Key exchange, and passwords until the server hangs up."""
    talk = Conversation(at, (GUESSER, port), (SERVER, 22), 247)
    talk.send(0.0005, PSH | ACK, 23)
    talk.answer(0.00006, ACK)
    talk.answer(0.03, PSH | ACK, 41)
    talk.send(0.0002, ACK)
    talk.send(0.0006, PSH | ACK, 640)
    talk.answer(0.00005, ACK)
    for size, back in ((24, 976), (272, 152), (16, 720), (52, 52)):
        talk.answer(0.002, PSH | ACK, back)
        talk.send(0.004, PSH | ACK, size)
        talk.answer(0.00004, ACK)
    for attempt in range(10):
        talk.send(0.0008, PSH | ACK, 98)
        talk.answer(0.00004, ACK)
        talk.answer(dice.uniform(1.8, 2.15) if attempt % 2 else dice.uniform(0.02, 0.05), PSH | ACK, 80)
    talk.send(0.04, ACK)
    talk.send(0.001, FIN | ACK)
    talk.answer(0.0009, FIN | ACK)
    talk.send(0.0003, ACK)
    return talk.packets


def guess_ftp(at, port):
    """Three passwords, each refused after a while."""
    talk = Conversation(at, (GUESSER, port), (FILES, 21), 227)
    talk.answer(0.0015, PSH | ACK, 20)
    talk.send(0.0003, ACK)
    for _ in range(3):
        talk.send(0.0004, PSH | ACK, 12)
        talk.answer(0.00004, ACK)
        talk.answer(0.00005, PSH | ACK, 34)
        talk.send(0.0004, PSH | ACK, dice.randrange(20, 27))
        talk.answer(0.04, ACK)
        talk.answer(dice.uniform(2.6, 3.4), PSH | ACK, 22)
    talk.send(0.0006, PSH | ACK, 6)
    talk.send(0.000002, FIN | ACK)
    talk.answer(0.0001, FIN | ACK)
    talk.answer(0.00001, RST, window=0, options=b"")
    talk.answer(0.000003, RST, window=0, options=b"")
    return talk.packets


def hammer(at, port):
    """A page that is asked for and not waited for."""
    talk = Conversation(at, (FLOODER, port), (SHOP, 80), 235)
    talk.send(0.0002, PSH | ACK, dice.randrange(290, 400))
    talk.answer(0.00005, ACK)
    talk.answer(dice.uniform(0.03, 0.14), ACK, 4344)
    talk.send(0.0008, ACK)
    talk.answer(0.00005, ACK, 4344)
    talk.answer(0.00003, PSH | ACK, 2907)
    talk.answer(0.00002, FIN | ACK)
    talk.send(0.0009, FIN | ACK)
    talk.answer(0.00004, ACK)
    talk.send(0.001, RST, window=0, options=b"")
    talk.send(0.000001, RST, window=0, options=b"")
    return talk.packets


def story():
    end, port = START + 60 * MINUTES, 20_000
    for client in CLIENTS:
        at = START + dice.uniform(0, 5)
        while at < end - 30:
            port += 2
            yield lookup(at, client, port)
            yield visit(at + 0.05, client, port + 1)
            at += dice.uniform(2, 12)
    # From minute 1: a thousand ports of one host, one of them every 20 ms.
    for number in range(1000):
        yield probe(START + 60 + number * 0.02, SCANNER, SERVER, number + 1)
    # From minute 2: three ports of every host.
    for number in range(1, 255):
        for place, service in enumerate((22, 445, 3389)):
            yield probe(START + 120 + number * 0.1 + place * 0.03, SWEEPER, f"10.1.0.{number}", service)
    # From minute 3 to 6: SSH passwords, four connections at a time.
    for number in range(60):
        yield guess_ssh(START + 180 + number // 4 * 12.5 + number % 4 * 0.01, 46_000 + 2 * number)
    # From minute 6: FTP passwords.
    for number in range(80):
        yield guess_ftp(START + 370 + number // 5 * 10 + number % 5 * 0.01, 52_000 + 2 * number)
    # From minute 9, for half a minute: forty pages a second.
    for number in range(1200):
        yield hammer(START + 540 + number * 0.025, 30_000 + number)


def main(path):
    packets = [packet for conversation in story() for packet in conversation]
    packets.sort(key=lambda packet: packet[0])
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for at, data in packets:
            micros = round(at * 1e6)
            file.write(struct.pack("<IIII", micros // 1_000_000, micros % 1_000_000, len(data), len(data)) + data)


if __name__ == "__main__":
    main(sys.argv[1])
