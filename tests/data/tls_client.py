"""Asks over TLS on a connection that it holds; for each line of standard input, again on that one and on another."""

import hashlib
import http.client
import ssl
import sys

port, trusted = int(sys.argv[1]), sys.argv[2]


def connect():
    context = ssl.create_default_context(cafile=trusted)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)


def ask(name, connection):
    connection.request("GET", "/health/live")
    answer = connection.getresponse()
    answer.read()
    tls = connection.sock
    certificate = hashlib.sha256(tls.getpeercert(True)).hexdigest()
    print(name, answer.status, tls.version(), tls.selected_alpn_protocol(), certificate, flush=True)


held = connect()
ask("held", held)
for _ in sys.stdin:
    ask("again", held)
    ask("other", connect())
