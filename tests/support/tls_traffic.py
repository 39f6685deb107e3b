# SPDX-License-Identifier: Apache-2.0
"""Real TLS traffic for tests: OpenSSL on both ends, over memory instead of sockets.

`TlsRun` drives a client and a server of Python's `ssl` and keeps what each wrote. `ctypes` calls in
the same libssl provide what `ssl` does not offer: renegotiation, KeyUpdate, early data, the suites
of TLS 1.3 and record padding. Certificates and keys are made for the test and protect nothing.
"""

import atexit
import contextlib
import ctypes
import datetime
import functools
import os
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DIRECTIONS = ("c2s", "s2c")
SUITES13 = {
    "aes128": "TLS_AES_128_GCM_SHA256",
    "aes256": "TLS_AES_256_GCM_SHA384",
    "chacha": "TLS_CHACHA20_POLY1305_SHA256",
    "ccm": "TLS_AES_128_CCM_SHA256",
}
SUITES12 = {
    "aes128": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "aes256": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "chacha": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ccm": "ECDHE-ECDSA-AES128-CCM",
    "ccm8": "ECDHE-ECDSA-AES256-CCM8",
    "cbc": "ECDHE-ECDSA-AES128-SHA256",
    "cbc384": "ECDHE-ECDSA-AES256-SHA384",
    "cbcsha": "ECDHE-ECDSA-AES256-SHA",
}
OP_NO_ENCRYPT_THEN_MAC = 1 << 19
OP_ALLOW_CLIENT_RENEGOTIATION = 1 << 8


@functools.cache
def _scratch() -> Path:
    """A folder of the process, which is removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="sealane-tls-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@functools.cache
def certificate() -> tuple[Path, Path]:
    """A self-signed certificate and its key, in files of the process."""
    folder = _scratch()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sealane.test")])
    now = datetime.datetime(2024, 1, 1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@functools.cache
def libssl() -> ctypes.CDLL:
    """The libssl that Python's `ssl` has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "libssl" in line:
            return ctypes.CDLL(line.split()[-1])
    import _ssl

    return ctypes.CDLL(_ssl.__file__)


def _context_pointer(context: ssl.SSLContext) -> ctypes.c_void_p:
    """SSL_CTX of an SSLContext: the first member after the object header."""
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__)


def _ssl_pointer(wrapped: ssl.SSLObject) -> ctypes.c_void_p:
    """SSL of an SSLObject: the second member, after the weak reference to the socket."""
    return ctypes.c_void_p.from_address(id(wrapped._sslobj) + object.__basicsize__ + 8)


def _must(result: int) -> None:
    if result != 1:
        raise RuntimeError("libssl refused")


class TlsRun:
    """One connection.

    flights: everything written, in order, as (direction, bytes). app: the application's bytes by
    direction. keylog: the key log's text.
    """

    def __init__(
        self,
        version="1.3",
        suite="aes256",
        retry=False,
        contexts=None,
        session=None,
        tickets=True,
        encrypt_then_mac=True,
        padding=0,
        max_early_data=0,
    ):
        """Sets up both ends.

        contexts: those of an earlier run, to resume its `session`. retry: the server wants another
        group (HelloRetryRequest). padding: records are padded to blocks of this size.
        """
        self.flights = []
        self.app = {"c2s": b"", "s2c": b""}
        self._read = {"c2s": b"", "s2c": b""}
        self.contexts = contexts or self._contexts(
            version, suite, retry, tickets, encrypt_then_mac, padding, max_early_data
        )
        self._log_size = self._log_path.stat().st_size if self._log_path.exists() else 0
        bios = [ssl.MemoryBIO(), ssl.MemoryBIO()]
        self._bios = {"c2s": bios[0], "s2c": bios[1]}
        client_context, server_context = self.contexts
        self.client = client_context.wrap_bio(
            bios[1], bios[0], server_hostname="sealane.test", session=session
        )
        self.server = server_context.wrap_bio(bios[0], bios[1], server_side=True)
        self._ends = {"c2s": self.client, "s2c": self.server}

    def _contexts(self, version, suite, retry, tickets, encrypt_then_mac, padding, early):
        wanted = {
            "1.0": ssl.TLSVersion.TLSv1,
            "1.1": ssl.TLSVersion.TLSv1_1,
            "1.2": ssl.TLSVersion.TLSv1_2,
            "1.3": ssl.TLSVersion.TLSv1_3,
        }[version]
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*certificate())
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        handle, path = tempfile.mkstemp(prefix="keys-", dir=_scratch())
        os.close(handle)
        client.keylog_filename = path
        for context in (client, server):
            context.minimum_version = context.maximum_version = wanted
            pointer = _context_pointer(context)
            if version == "1.3":
                _must(libssl().SSL_CTX_set_ciphersuites(pointer, SUITES13[suite].encode()))
            elif version == "1.2":
                context.set_ciphers(SUITES12[suite] + ":@SECLEVEL=0")
            else:
                context.set_ciphers("ALL:@SECLEVEL=0")
            context.options |= OP_ALLOW_CLIENT_RENEGOTIATION
            if not tickets:
                context.options |= ssl.OP_NO_TICKET
            if not encrypt_then_mac:
                context.options |= OP_NO_ENCRYPT_THEN_MAC
            if padding:
                _must(libssl().SSL_CTX_set_block_padding(pointer, ctypes.c_size_t(padding)))
            if early:
                _must(libssl().SSL_CTX_set_max_early_data(pointer, early))
        if retry:
            server.set_ecdh_curve("secp384r1")
        return client, server

    @property
    def _log_path(self) -> Path:
        return Path(self.contexts[0].keylog_filename)

    @property
    def keylog(self) -> str:
        """The key log of this run."""
        return self._log_path.read_bytes()[self._log_size :].decode()

    def _settle(self) -> None:
        """Lets both ends read until nothing moves."""
        for _ in range(20):
            for direction, end in (("c2s", self.server), ("s2c", self.client)):
                before = {d: bio.pending for d, bio in self._bios.items()}
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                    while data := end.read(1 << 16):
                        self._read[direction] += data
                # The end's own answers must not count as data it had to read.
                other = "s2c" if direction == "c2s" else "c2s"
                self._note(other, before[other])
            if not any(bio.pending for bio in self._bios.values()):
                return

    def _note(self, direction: str, old: int) -> None:
        bio = self._bios[direction]
        if bio.pending > old:
            data = bio.read()
            self.flights.append((direction, data[old:]))
            bio.write(data)

    def handshake(self) -> "TlsRun":
        """The handshake, tickets included."""
        for _ in range(20):
            done = 0
            for direction, end in self._ends.items():
                old = self._bios[direction].pending
                try:
                    end.do_handshake()
                    done += 1
                except ssl.SSLWantReadError:
                    pass
                self._note(direction, old)
            if done == 2:
                break
        self._settle()
        return self

    def send(self, direction: str, data: bytes, settle: bool = True) -> "TlsRun":
        """Application data in one call of SSL_write."""
        old = self._bios[direction].pending
        assert self._ends[direction].write(data) == len(data)
        self.app[direction] += data
        self._note(direction, old)
        if settle:
            self._settle()
        return self

    def key_update(self, direction: str, answer: bool = False) -> "TlsRun":
        """Requests a KeyUpdate, sent with the next data. `answer`: the peer shall update too."""
        pointer = _ssl_pointer(self._ends[direction])
        _must(libssl().SSL_key_update(pointer, int(answer)))
        old = self._bios[direction].pending
        _must(libssl().SSL_do_handshake(pointer))
        self._note(direction, old)
        return self

    def renegotiate(self, direction: str) -> "TlsRun":
        """A second handshake of TLS 1.2, requested by one side."""
        pointer = _ssl_pointer(self._ends[direction])
        _must(libssl().SSL_renegotiate(pointer))
        old = self._bios[direction].pending
        libssl().SSL_do_handshake(pointer)
        self._note(direction, old)
        self._settle()
        return self

    def early_data(self, data: bytes, accept: bool = True) -> "TlsRun":
        """0-RTT data of a resuming client, then the handshake. TLS 1.3."""
        written = ctypes.c_size_t()
        old = self._bios["c2s"].pending
        _must(
            libssl().SSL_write_early_data(
                _ssl_pointer(self.client), data, ctypes.c_size_t(len(data)), ctypes.byref(written)
            )
        )
        self._note("c2s", old)
        if accept:
            buffer, got = ctypes.create_string_buffer(len(data) + 1), ctypes.c_size_t()
            old = self._bios["s2c"].pending
            state = libssl().SSL_read_early_data(
                _ssl_pointer(self.server), buffer, ctypes.c_size_t(len(data)), ctypes.byref(got)
            )
            assert state == 1 and buffer.raw[: got.value] == data
            self._note("s2c", old)
            self.app["c2s"] += data
            self._read["c2s"] += data
        return self.handshake()

    def close(self) -> "TlsRun":
        """close_notify from both."""
        for direction in DIRECTIONS:
            old = self._bios[direction].pending
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLSyscallError):
                self._ends[direction].unwrap()
            self._note(direction, old)
        assert self._read == self.app, "the two ends do not agree"
        return self

    @property
    def session(self):
        """The client's session, to be passed to the next run."""
        return self.client.session

    def stream(self, direction: str) -> bytes:
        """All bytes that one side wrote."""
        return b"".join(data for d, data in self.flights if d == direction)


def talk(run: TlsRun) -> TlsRun:
    """Data both ways, then the close."""
    return run.send("c2s", b"question" * 50).send("s2c", bytes(range(256)) * 150).close()
