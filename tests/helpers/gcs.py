"""A bucket on this machine for tests: the fake-gcs-server emulator behind a proxy that can misbehave."""

import http.client
import http.server
import json
import os
import socket
import subprocess
import threading
import time
import urllib.parse
from collections import Counter, defaultdict


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Emulator:
    """The emulator, reached through the proxy at `url`.

    `faults[name]` is a list of faults that the next reads of the object meet, one each; `reads` counts reads
    of objects. `upload_faults` meet the next requests that upload. Faults: a status code, "reset",
    "truncate", "corrupt", "splice" (a truncated body that goes on wrongly when the client asks for the rest),
    "lost" (done, but the answer does not arrive).
    """

    def __init__(self, binary):
        self.backend, self.port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.faults, self.reads = defaultdict(list), Counter()
        self.upload_faults = []
        self.refusal = None  # (status, Google's sentence) for all requests that name no `payer`
        self.payer = None
        self.delay = 0.0  # seconds before each answer
        command = [binary, *f"-scheme http -host 127.0.0.1 -port {self.backend} -backend memory".split()]
        command += f"-external-url {self.url} -public-host 127.0.0.1:{self.port} -log-level error".split()
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.proxy = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        threading.Thread(target=self.proxy.serve_forever, daemon=True).start()
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.backend)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("the emulator does not answer")

    def stop(self):
        self.proxy.shutdown()
        self.process.kill()
        self.process.wait()

    def client(self):
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        return storage.Client(
            project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": self.url}
        )

    def put(self, bucket, name, data, *, encoding=None):
        client = self.client()
        if not client.bucket(bucket).exists():
            client.create_bucket(bucket)
        blob = client.bucket(bucket).blob(name)
        blob.content_encoding = encoding
        blob.upload_from_string(data)

    def upload(self, bucket, folder, prefix=""):
        """All files below a folder, named by their paths."""
        client = self.client()
        if not client.bucket(bucket).exists():
            client.create_bucket(bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = prefix + path.relative_to(folder).as_posix()
                client.bucket(bucket).blob(name).upload_from_filename(os.fspath(path))


def _handler(emulator):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 65536  # head and body in one packet: two would wait for an acknowledgement, 40 ms each

        def log_message(self, *_):
            pass

        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            headers["Host"] = f"127.0.0.1:{emulator.port}"
            backend = http.client.HTTPConnection("127.0.0.1", emulator.backend, timeout=30)
            backend.request(self.command, self.path, body, headers)
            answer = backend.getresponse()
            data = answer.read()
            backend.close()
            return answer, data

        def answer(self):
            time.sleep(emulator.delay)
            url = urllib.parse.urlsplit(self.path)
            fault = None
            named = urllib.parse.parse_qs(url.query).get("userProject")
            if emulator.refusal and not (emulator.payer and named == [emulator.payer]):
                status, sentence = emulator.refusal
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = {"error": {"code": status, "message": sentence}}
                self.respond(status, {"Content-Type": "application/json"}, json.dumps(body).encode())
                return
            if self.command == "GET" and "alt=media" in url.query:
                name = urllib.parse.unquote(url.path.rpartition("/o/")[2])
                emulator.reads[name] += 1
                if emulator.faults[name]:
                    fault = emulator.faults[name].pop(0)
            if self.command in ("POST", "PUT") and "/upload/" in url.path and emulator.upload_faults:
                fault = emulator.upload_faults.pop(0)
                if fault == "lost":
                    self.forward()
                    fault = "reset"
            if fault == "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if isinstance(fault, int):
                self.respond(fault, {}, b'{"error": {"message": "injected"}}')
                return
            answer, data = self.forward()
            headers = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in ("transfer-encoding", "content-length", "connection")
            }
            if fault == "corrupt" or fault == "splice-rest":
                data = bytes([data[0] ^ 255]) + data[1:]
            if fault in ("truncate", "splice"):
                if fault == "splice":
                    emulator.faults[name].insert(0, "splice-rest")
                self.respond(answer.status, headers, data, send=len(data) // 2)
                self.close_connection = True
                return
            self.respond(answer.status, headers, data)

        def respond(self, status, headers, data, send=None):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[:send])
                self.wfile.flush()

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = answer

    return Handler
