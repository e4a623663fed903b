"""Writes the seeds beside this file: small inputs of every kind, made here and of nobody's traffic.

    python3 tests/fuzz/corpus/seeds.py            # all but the models
    ~/.cache/ml-ids/venv/bin/python tests/fuzz/corpus/seeds.py

Models need the package `onnx`, which the environment of `training/` has.
"""

import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]
SECOND = 1_000_000


def write(target: str, name: str, content: bytes) -> None:
    folder = HERE / target
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


# Frames

ETHERNET = bytes([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2])
A, B = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
A6, B6 = bytes([0xFD] + [0] * 14 + [1]), bytes([0xFD] + [0] * 14 + [2])
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def ipv4(source, destination, protocol, payload, fragment=0, identifier=7):
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), identifier, fragment, 64, protocol, 0)
    return b"\x08\x00" + head + source + destination + payload


def ipv6(source, destination, protocol, payload):
    return b"\x86\xdd" + struct.pack(">IHBB", 0x60000000, len(payload), protocol, 64) + source + destination + payload


def tcp(source, destination, flags, payload=b""):
    return struct.pack(">HHIIBBHHH", source, destination, 1, 1, 0x50, flags, 64240, 0, 0) + payload


def udp(source, destination, payload=b""):
    return struct.pack(">HHHH", source, destination, 8 + len(payload), 0) + payload


def conversation(wrap, there=A, back=B):
    """A handshake, a request and its answer, and the end by both sides."""
    to = lambda flags, payload=b"": ETHERNET + wrap(there, back, 6, tcp(40000, 443, flags, payload))
    fro = lambda flags, payload=b"": ETHERNET + wrap(back, there, 6, tcp(443, 40000, flags, payload))
    return [to(SYN), fro(SYN | ACK), to(ACK), to(PSH | ACK, b"G" * 20), fro(PSH | ACK, b"x" * 90), to(FIN | ACK),
            fro(FIN | ACK), to(ACK)]


def inside(head):
    """The conversation behind the headers of a tunnel."""
    return [ETHERNET + head(frame) for frame in conversation(ipv4)]


VXLAN = b"\x08\x00\x00\x00\x00\x00\x07\x00"
GENEVE = b"\x00\x00\x65\x58\x00\x00\x07\x00"
FRAMES = {
    "tcp4": conversation(ipv4),
    "tcp6": conversation(ipv6, A6, B6),
    "reset": conversation(ipv4)[:4] + [ETHERNET + ipv4(B, A, 6, tcp(443, 40000, RST))],
    "vlan": [frame[:12] + b"\x81\x00\x00\x05\x88\xa8\x00\x06" + frame[12:] for frame in conversation(ipv4)],
    "udp": [ETHERNET + ipv4(A, B, 17, udp(5000, 53, b"q" * 12)), ETHERNET + ipv4(B, A, 17, udp(53, 5000, b"a" * 60))],
    "sctp": [ETHERNET + ipv4(A, B, 132, struct.pack(">HHII", 5000, 5001, 0, 0) + bytes(16))] * 3,
    "icmp": [ETHERNET + ipv4(A, B, 1, b"\x08\x00\x00\x00\x00\x01\x00\x01" + bytes(32))] * 2,
    "fragments": [
        ETHERNET + ipv4(A, B, 17, udp(5000, 53, b"q" * 24), fragment=0x2000),
        ETHERNET + ipv4(A, B, 17, b"q" * 24, fragment=4),
    ],
    "vxlan": inside(lambda frame: ipv4(A, B, 17, udp(50000, 4789, VXLAN + frame))),
    "geneve": inside(lambda frame: ipv4(A, B, 17, udp(50000, 6081, GENEVE + frame))),
    "gre": inside(lambda frame: ipv4(A, B, 47, b"\x00\x00\x65\x58" + frame)),
    "ipip": inside(lambda frame: ipv4(A, B, 4, frame[14:])),
    "short": [ETHERNET, ETHERNET + b"\x08\x00\x45", b"\x00", b""],
    "arp": [ETHERNET + b"\x08\x06" + bytes(46)],
}


def sequence(kind, frames, gaps):
    """As tests/fuzz/src/sequence.rs reads it."""
    out = bytes([kind, 0x0F])
    for number, frame in enumerate(frames):
        out += struct.pack("<Hi", len(frame), gaps[number % len(gaps)]) + frame
    return out


def frames():
    for number, (name, content) in enumerate(FRAMES.items()):
        write("frames", name, sequence(number % 3, content, [1000]))
        write("eve", name, b'a"\n\xff' + sequence(number % 3, content, [1000]))
    write("frames", "idle", sequence(0, conversation(ipv4), [6 * SECOND, 130 * SECOND]))
    write("frames", "backwards", sequence(0x81, conversation(ipv4), [1000, -500, -2 * SECOND]))
    write("eve", "long", b"host" + sequence(1, conversation(ipv4)[:5] * 12, [1000, 6 * SECOND]))


# Captures


def pcap(link, content, magic=0xA1B2C3D4, order="<"):
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    for number, frame in enumerate(content):
        out += struct.pack(order + "IIII", 1_700_000_000, number, len(frame), len(frame)) + frame
    return out


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def pcapng(link, content, order="<", resolution=6):
    section = block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)
    options = struct.pack(order + "HHB3xHH", 9, 1, resolution, 0, 0)
    interface = block(1, struct.pack(order + "HHI", link, 0, 65535) + options, order)
    packets = b""
    for number, frame in enumerate(content):
        time = 1_700_000_000 * 10**resolution + number
        head = struct.pack(order + "IIIII", 0, time >> 32, time & 0xFFFFFFFF, len(frame), len(frame))
        packets += block(6, head + frame, order)
    simple = block(3, struct.pack(order + "I", len(content[0])) + content[0], order)
    return section + interface + packets + simple + block(5, bytes(12), order)


def captures():
    talk = conversation(ipv4)
    write("pcap", "little", pcap(1, talk))
    write("pcap", "big-nanoseconds", pcap(1, talk, 0xA1B23C4D, ">"))
    write("pcap", "raw", pcap(101, [frame[14:] for frame in talk]))
    write("pcap", "sll", pcap(113, [bytes(14) + frame[12:] for frame in talk]))
    write("pcap", "sll2", pcap(276, [frame[12:14] + bytes(18) + frame[14:] for frame in talk]))
    write("pcap", "null", pcap(0, [b"\x02\x00\x00\x00" + frame[14:] for frame in talk]))
    write("pcap", "unknown-link", pcap(147, talk))
    write("pcap", "cut", pcap(1, talk)[:-7])
    write("pcap", "ng", pcapng(1, talk))
    write("pcap", "ng-big-nanoseconds", pcapng(1, talk, ">", 9))
    write("pcap", "ng-two-sections", pcapng(1, talk) + pcapng(101, [frame[14:] for frame in talk], ">"))
    write("pcap", "ng-cut", pcapng(1, talk)[:-30])


# Bodies


def bodies():
    flow = {"Flow Duration": 4987, "Total Fwd Packets": 12, "Fwd Packet Length Std": 100.5, "SYN Flag Count": 1}
    client = {"src_ip": "10.0.0.1", "dst_ip": "10.0.0.2", "src_port": 40000, "protocol": 6,
              "timestamp": "2026-01-01 00:00:00", "flow_duration": 0.5, "tot_fwd_pkts": 12}
    table = {"columns": ["src_ip", "flow_duration", "tot_fwd_pkts"], "index": [0], "data": [["10.0.0.1", 0.5, 12]]}
    named = {
        "single": flow,
        "batch": [flow, flow],
        "client": client,
        "table": table,
        "features": {"features": flow},
        "flows": {"flows": [flow, client]},
        "numbers": list(range(78)),
        "numbers-76": [0.5] * 76,
        "rows-of-numbers": [[1] * 78, [2] * 78],
        "wrong-length": [1] * 77,
        "text-for-number": {"Flow Duration": "4987"},
        "huge": {"Flow Duration": 1e308, "flow_duration": 1e308},
        "too-many": [flow] * 17,
        "nothing-known": {"a": 1},
        "nested": {"features": {"features": {"features": []}}},
    }
    for name, body in named.items():
        write("predict", name, json.dumps(body).encode())
    write("predict", "lines", b"\n".join(json.dumps(line).encode() for line in [flow, client, [], flow]) + b"\n\n")
    write("predict", "twice", b'{"Flow Duration": 1, " flow duration ": 2, "Flow Duration": 3}')
    write("predict", "mark", b"\xef\xbb\xbf" + json.dumps(flow).encode())
    write("predict", "not-a-number", b'{"Flow Duration": NaN}')
    write("predict", "deep", b"[" * 300 + b"]" * 300)
    write("predict", "surrogate", b'{"\\ud800": 1, "Flow Duration": 1}')


# Configuration files


def settings():
    texts = {
        "run": '[run]\ninterface = ["eth0", "veth*"]\nattach = "mirror"\nmax-flows = 65536\npin = true\n',
        "shared": 'log-format = "json"\n\n[serve]\nlisten = "127.0.0.1:9000"\nmodel = "embedded"\n',
        "tables": '[run]\nlinger = 1.5\nallow = ["10.0.0.0/8", "fd00::/8"]\nsink = ["stdout?types=alert"]\n',
        "unknown": '[run]\nintreface = "eth0"\n[rum]\na = 1\n',
        "wrong-kind": '[run]\nmax-flows = "many"\npin = 3\nlinger = [1]\n',
        "secret": '[run]\nmodel = "https://user:secret@example.org/m.onnx"\n',
        "syntax": '[run\ninterface = = 1\n"""',
        "twice": '[run]\npin = true\npin = false\n[run]\n',
        "empty": "",
    }
    for name, text in texts.items():
        write("config", name, text.encode())


# Models


def models():
    try:
        import onnx
        from onnx import helper
    except ImportError:
        print("models are left as they are: the package onnx is missing")
        return
    default = onnx.load(ROOT / "models/default.onnx")
    metadata = {entry.key: entry.value for entry in default.metadata_props}
    classes = len(json.loads(metadata["ml_ids.classes"]))
    for key in ["ml_ids.probes", "ml_ids.distribution", "ml_ids.citation", "ml_ids.metrics"]:
        metadata.pop(key)

    def save(name, nodes, kind, initializers=(), **changed):
        graph = helper.make_graph(nodes, name, default.graph.input, default.graph.output, initializers)
        model = helper.make_model(graph, opset_imports=default.opset_import, ir_version=default.ir_version)
        entries = metadata | {"ml_ids.kind": kind} | changed
        helper.set_model_props(model, {key: value for key, value in entries.items() if value})
        write("model", name, model.SerializeToString())

    def trees(post_transform, weights, outputs=("label", "probabilities")):
        """Two trees: one that splits twice, and a leaf."""
        split = {"nodes_treeids": [0, 0, 0, 0, 0, 1], "nodes_nodeids": [0, 1, 2, 3, 4, 0],
                 "nodes_featureids": [1, 2, 0, 0, 0, 0], "nodes_values": [10.0, -1.5, 0.0, 0.0, 0.0, 0.0],
                 "nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF", "LEAF"],
                 "nodes_truenodeids": [1, 2, 0, 0, 0, 0], "nodes_falsenodeids": [4, 3, 0, 0, 0, 0],
                 "nodes_hitrates": [9.0, 6.0, 3.0, 3.0, 3.0, 9.0]}
        leaves = [(0, 2, 0), (0, 3, 1), (0, 4, classes - 1), (1, 0, 0)]
        return helper.make_node(
            "TreeEnsembleClassifier", ["features"], list(outputs), domain="ai.onnx.ml", **split,
            class_treeids=[leaf[0] for leaf in leaves], class_nodeids=[leaf[1] for leaf in leaves],
            class_ids=[leaf[2] for leaf in leaves], class_weights=weights,
            classlabels_int64s=list(range(classes)), post_transform=post_transform)

    forest, boosted = trees("NONE", [0.5, 0.5, 0.5, 0.5]), trees("SOFTMAX", [0.2, -0.4, 1.5, 0.1])
    save("forest", [forest], "forest")
    save("boosted", [boosted], "boosted")
    save("no-contract", [forest], "forest", **{"ml_ids.contract": ""})
    save("other-kind", [forest], "boosted")
    save("other-profile", [forest], "forest", **{"ml_ids.profile": "cic2019"})
    save("not-a-weight", [trees("SOFTMAX", [float("nan"), 1.0, 1.0, 1.0])], "boosted")
    save("unknown-operator", [helper.make_node("Sin", ["features"], ["probabilities"])], "forest")


frames()
captures()
bodies()
settings()
models()
