# SPDX-License-Identifier: Apache-2.0
"""Traffic of real programs: nginx, curl, GnuTLS and OpenSSL talk over loopback through a relay
that keeps what passes, and the replay must recover every byte of it.

GnuTLS and nginx differ from the library in this process in what the engine sees: record sizes,
explicit nonces of TLS 1.2, tickets, padding.
"""

import contextlib
import hashlib
import os
import random
import socket
import subprocess
import threading
import time

import pytest

from sealane.driver.model.device import ModelTransport
from sealane.driver.replay.rx.replay import Replay
from sealane.driver.tls.keylog import Keylog
from tests.support import requirements
from tests.support.replays import captured, check_direction
from tests.support.tcp_frames import conversation, frames, impair, random_cut
from tests.support.tls_traffic import certificate

TIMEOUT = 20
DATA = random.Random(11).randbytes(300_000)


class Relay:
    """Accepts one connection, connects it to `port` and keeps what passes in `flights`."""

    def __init__(self, port: int) -> None:
        self.flights = []
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TIMEOUT)
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._listener, self._listener.accept()[0] as client:
            with socket.create_connection(("127.0.0.1", self._target), TIMEOUT) as server:
                client.settimeout(TIMEOUT)
                back = threading.Thread(target=self._copy, args=("s2c", server, client))
                back.start()
                self._copy("c2s", client, server)
                back.join(TIMEOUT)

    def _copy(self, direction: str, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                with self._lock:
                    self.flights.append((direction, data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def wait(self) -> list:
        """What passed, in order."""
        self._thread.join(TIMEOUT)
        return self.flights


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def serving(command, port, **options):
    """A server, once it listens."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **options,
    )
    try:
        end = time.monotonic() + TIMEOUT
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert process.poll() is None and time.monotonic() < end, f"{command[0]} did not start"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def nginx(folder, port):
    """Command of an nginx that serves `folder`."""
    certificate_file, key_file = certificate()
    (folder / "data.bin").write_bytes(DATA)
    (folder / "nginx.conf").write_text(f"""
        daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 64; }}
        http {{
          access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
          fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
          server {{
            listen 127.0.0.1:{port} ssl; root {folder};
            ssl_certificate {certificate_file}; ssl_certificate_key {key_file};
            ssl_protocols TLSv1.2 TLSv1.3;
          }}
        }}
    """)
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def check(flights, keylog: str, c2s_has: bytes, s2c_has: bytes) -> dict:
    """Replays the flights as they were and over a bad path; returns the first report."""
    reports = []
    clean = conversation(flights)
    for segments in (clean, impair(conversation(flights, cut=random_cut(4, 300)), seed=4)):
        packets = captured(frames(segments))
        runner = Replay(ModelTransport(), Keylog.parse(keylog))
        runner.run(packets)
        report, plaintext = runner.report("made", "model"), runner.plaintext()
        connection = report["connections"][0]
        assert connection["offloaded"] and connection["reason"] is None
        for direction, has in (("c2s", c2s_has), ("s2c", s2c_has)):
            check_direction(connection[direction]["rx"], plaintext[0, direction])
            assert has in plaintext[0, direction]
            assert connection[direction]["rx"]["refused_records"] == 0
        reports.append(connection)
    for direction in ("c2s", "s2c"):
        rx = reports[0][direction]["rx"]
        # Records that share a packet with a ticket or with the handshake are software's.
        assert rx["records_full"] >= 0.8 * rx["app_records"] - 1
    return reports[0]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_and_nginx(tmp_path, version):
    requirements.require_programs("nginx", "curl")
    port, keys = free_port(), tmp_path / "keys"
    with serving(nginx(tmp_path, port), port):
        relay = Relay(port)
        done = subprocess.run(
            [
                "curl",
                "-sk",
                "--http1.1",
                f"--tlsv{version}",
                "--tls-max",
                version,
                f"https://127.0.0.1:{relay.port}/data.bin",
            ],
            env=os.environ | {"SSLKEYLOGFILE": str(keys)},
            capture_output=True,
            timeout=TIMEOUT,
            check=True,
        )
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(DATA).digest()
    connection = check(relay.wait(), keys.read_text(), b"GET /data.bin", DATA)
    assert connection["version"] == version


@pytest.mark.parametrize(
    ("version", "priority"),
    [
        ("1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM"),
        ("1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM"),
    ],
)
def test_gnutls_client_and_openssl_server(tmp_path, version, priority):
    requirements.require_programs("gnutls-cli", "openssl")
    port, keys = free_port(), tmp_path / "keys"
    certificate_file, key_file = certificate()
    (tmp_path / "data.bin").write_bytes(DATA)
    server = [
        "openssl",
        "s_server",
        "-quiet",
        "-accept",
        f"127.0.0.1:{port}",
        "-WWW",
        "-cert",
        str(certificate_file),
        "-key",
        str(key_file),
    ]
    with serving(server, port, cwd=tmp_path):
        relay = Relay(port)
        done = subprocess.run(
            [
                "gnutls-cli",
                "--insecure",
                "--logfile=/dev/null",
                f"--priority={priority}",
                "-p",
                str(relay.port),
                "127.0.0.1",
            ],
            input=b"GET /data.bin HTTP/1.0\r\n\r\n",
            capture_output=True,
            timeout=TIMEOUT,
            env=os.environ | {"SSLKEYLOGFILE": str(keys)},
            check=False,
        )
    assert done.returncode == 0, done.stderr
    connection = check(relay.wait(), keys.read_text(), b"GET /data.bin", DATA)
    assert connection["version"] == version


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_openssl_client_and_gnutls_server(tmp_path, version):
    requirements.require_programs("gnutls-serv", "openssl")
    port, keys = free_port(), tmp_path / "keys"
    certificate_file, key_file = certificate()
    server = [
        "gnutls-serv",
        "--echo",
        "--quiet",
        "-p",
        str(port),
        f"--x509certfile={certificate_file}",
        f"--x509keyfile={key_file}",
    ]
    lines = b"".join(DATA[i : i + 700].hex().encode() + b"\n" for i in range(0, 70_000, 700))
    with serving(server, port):
        relay = Relay(port)
        client = subprocess.Popen(
            [
                "openssl",
                "s_client",
                "-quiet",
                "-connect",
                f"127.0.0.1:{relay.port}",
                "-keylogfile",
                str(keys),
                f"-tls{version.replace('.', '_')}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        client.stdin.write(lines)
        client.stdin.flush()
        got = b""
        while len(got) < len(lines):
            data = os.read(client.stdout.fileno(), 1 << 16)
            assert data
            got += data
        client.stdin.close()
        client.terminate()
        client.wait(TIMEOUT)
    assert got == lines
    connection = check(relay.wait(), keys.read_text(), lines, lines)
    assert connection["version"] == version
