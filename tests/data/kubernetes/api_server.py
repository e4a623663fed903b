"""Answers list and watch of pods on a port of localhost as an API server does, by TLS, from a folder: `pods.json` is the list, each
line of `changes.jsonl`, which may grow, an event of the watch. A line of type CUT breaks the connection; this and errors happen
once. `cert.pem` and `key.pem` say who it is."""

import http.server
import json
import pathlib
import ssl
import sys
import time
import urllib.parse

folder, port, token, node = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
once = set()


def changes(since):
    """Events after a version, with their places; those that have none come until they have happened."""
    for number, line in enumerate((folder / "changes.jsonl").read_text().splitlines()):
        event = json.loads(line)
        version = int(event.get("object", {}).get("metadata", {}).get("resourceVersion", 0))
        if version > since or (version == 0 and number not in once):
            yield number, version, event


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if self.headers.get("Authorization") != f"Bearer {token}":
            self.refuse(401, "Unauthorized")
        elif url.path != "/api/v1/pods" or query.get("fieldSelector") != f"spec.nodeName={node}":
            self.refuse(403, "Forbidden")
        elif query.get("watch") in ("true", "1"):
            print("WATCH", query.get("resourceVersion"), flush=True)
            self.watch(int(query["resourceVersion"]), query.get("allowWatchBookmarks") == "true")
        else:
            print("LIST", flush=True)
            self.answer(200, (folder / "pods.json").read_bytes())

    def refuse(self, code, reason):
        print("REFUSED", code, self.path, flush=True)
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        self.answer(code, json.dumps({**status, "message": reason, "reason": reason, "code": code}).encode())

    def answer(self, code, body):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def watch(self, since, bookmarks):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        while True:
            for number, version, event in changes(since):
                if version == 0:
                    once.add(number)
                if event["type"] == "CUT":
                    print("CUT", flush=True)
                    self.close_connection = True
                    return
                if event["type"] != "BOOKMARK" or bookmarks:
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                    self.wfile.flush()
                since = max(since, version)
                if event["type"] == "ERROR":
                    self.wfile.write(b"0\r\n\r\n")
                    return
            time.sleep(0.05)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer.daemon_threads = True
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
