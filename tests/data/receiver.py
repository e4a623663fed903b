"""Takes events as other programs would and appends them, a line each, to a file: receiver.py http|unix|unixgram PLACE FILE.

The HTTP server refuses what holds "poison" with 400, is busy (503 and Retry-After) at every seventh request, and notes the
Authorization of each request in front of its body.
"""

import http.server
import os
import socket
import sys


def note(file: int, line: bytes) -> None:
    os.write(file, line.rstrip(b"\n") + b"\n")


def http_server(port: int, file: int) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        requests = 0

        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers["content-length"]))
            Handler.requests += 1
            status = 204
            if Handler.requests % 7 == 0:
                status = 503
            elif b"poison" in body:
                status = 400
            else:
                authorization = self.headers.get("authorization", "-").encode()
                note(file, authorization + b"|" + body.replace(b"\n", b" "))
            self.send_response(status)
            if status == 503:
                self.send_header("retry-after", "0")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print("ready", flush=True)
    server.serve_forever()


def unix_stream(path: str, file: int) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    print("ready", flush=True)
    while True:
        peer, _ = listener.accept()
        with peer, peer.makefile("rb") as lines:
            for line in lines:
                note(file, line)


def unix_datagrams(path: str, file: int) -> None:
    reader = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    reader.bind(path)
    print("ready", flush=True)
    while True:
        note(file, reader.recv(1 << 20))


def main() -> None:
    kind, place, output = sys.argv[1:]
    file = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    if kind == "http":
        http_server(int(place), file)
        return
    if os.path.exists(place):
        os.unlink(place)
    {"unix": unix_stream, "unixgram": unix_datagrams}[kind](place, file)


main()
