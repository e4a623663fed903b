"""UDP conversations whose packets are counted at both ends: `serve ADDRESS`, or `talk ADDRESS COUNT SECONDS`.

The server answers each datagram and, told to stop by a datagram "stop", prints one JSON object: by the client's port, how
many datagrams came and how many answers went.
"""
import json
import select
import socket
import sys
import time

PORT = 7007


def serve(address):
    counts = {}
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    server.bind((address, PORT))
    print("ready", flush=True)
    while True:
        data, peer = server.recvfrom(2048)
        if data == b"stop":
            break
        count = counts.setdefault(peer[1], [0, 0])
        count[0] += 1
        server.sendto(data, peer)
        count[1] += 1
    print("counts " + json.dumps(counts), flush=True)


def talk(address, count, seconds):
    sockets = []
    for _ in range(count):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect((address, PORT))
        sockets.append(client)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for client in sockets:
            client.send(b"x" * 40)
        time.sleep(0.05)
        ready, _, _ = select.select(sockets, [], [], 0)
        for client in ready:
            client.recv(2048)
    print("done", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        talk(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
