#!/usr/bin/env python3
"""chatter.py serve ADDRESS | chatter.py talk ADDRESS STOP: one long TCP conversation and many short ones, TCP and UDP.

Talks until the file STOP exists, then ends every conversation. All of it is answered by the server with what was sent."""
import os, socket, socketserver, sys, threading, time

TCP_PORT, UDP_PORT = 9000, 9001


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(2048):
            self.request.sendall(data)


class EchoDatagram(socketserver.BaseRequestHandler):
    def handle(self):
        data, endpoint = self.request
        endpoint.sendto(data, self.client_address)


def serve(address):
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    tcp = socketserver.ThreadingTCPServer((address, TCP_PORT), Echo)
    udp = socketserver.UDPServer((address, UDP_PORT), EchoDatagram)
    threading.Thread(target=udp.serve_forever, daemon=True).start()
    print("ready", flush=True)
    tcp.serve_forever()


def connect(address):
    conversation = socket.create_connection((address, TCP_PORT), timeout=10)
    conversation.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return conversation


def exchange(conversation, data):
    conversation.sendall(data)
    left = len(data)
    while left:
        left -= len(conversation.recv(left))


def talk(address, stop):
    long = connect(address)
    print("long", long.getsockname()[1], flush=True)
    turn = 0
    while not os.path.exists(stop):
        exchange(long, b"x" * (1 + turn % 700))
        if turn % 8 == 0:
            with connect(address) as short:
                exchange(short, b"short")
        if turn % 4 == 0:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
                datagram.settimeout(10)
                datagram.sendto(b"datagram", (address, UDP_PORT))
                datagram.recv(64)
        turn += 1
        time.sleep(0.003)
    long.close()
    print("done", turn, flush=True)


{"serve": serve, "talk": talk}[sys.argv[1]](*sys.argv[2:])
