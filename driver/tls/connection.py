# SPDX-License-Identifier: Apache-2.0
"""A TLS connection seen from outside with its secrets known: both directions, tied together.

It reads handshakes (RFC 5246, RFC 8446), keeps the keys of both directions current and opens
records in software. It serves two users with the same code: the software oracle, which lets it
decrypt everything, and the host's TLS library, which with `hand_over` decrypts the handshake only
and gives each direction's keys away (`InstallKeys`) as soon as its handshake is complete; from
then on the kernel's TLS delivers the handshake records that it meets (`deliver`).

A direction waits where the other one must be seen first: a client's records mean nothing before
the ServerHello. Nothing depends on the order in which the two streams are fed.
"""

from dataclasses import replace

from .direction_state import DirectionState, Event, Exchange, InstallKeys, State
from .hello import (
    CLIENT_HELLO,
    EXT_EARLY_DATA,
    EXT_ENCRYPT_THEN_MAC,
    EXT_PRE_SHARED_KEY,
    EXT_SESSION_TICKET,
    SERVER_HELLO,
    Hello,
    find_hello,
    parse_extensions,
    parse_hello,
)
from .key_schedule import next_traffic_secret, tls12_keys, tls13_keys
from .keylog import Keylog
from .protection import Protection, Refused
from .records import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    HANDSHAKE,
    Outcome,
    Phase,
    Record,
    check_header,
)
from .suites import SUITES, Suite, suite_name

__all__ = ["Connection", "Event", "InstallKeys", "State"]

NEW_SESSION_TICKET, END_OF_EARLY_DATA, ENCRYPTED_EXTENSIONS = 4, 5, 8
FINISHED, KEY_UPDATE = 20, 24
CLOSE_NOTIFY, USER_CANCELED, NO_RENEGOTIATION = 0, 90, 100
PRELUDE_LIMIT = 1 << 20  # bytes in the clear before TLS that are searched for a hello
VERSIONS = {0x0300: "SSL 3.0", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}


class Connection:
    """Both directions of one connection.

    sessions: master secrets by session id and ticket, shared by the connections of a capture, so
    that a resumption of TLS 1.2 that the key log misses can be read.
    version, suite: "1.2", "1.3", ...; `None` before the ServerHello.
    reason: why the connection is not for the engine; `None` if it is, or not yet known.
    """

    def __init__(
        self, keylog: Keylog, sessions: dict[bytes, bytes] | None = None, hand_over: bool = False
    ) -> None:
        self.keylog = keylog
        self.hand_over = hand_over
        self.version: str | None = None
        self.suite: Suite | None = None
        self.cipher: str | None = None
        self.reason: str | None = None
        self._sessions = {} if sessions is None else sessions
        self._dir_states = {direction: DirectionState(direction) for direction in ("c2s", "s2c")}
        self._exchanges = [Exchange()]
        self._retried = False
        self._hellos = 0  # ClientHellos of the first handshake
        self._early: bool | None = None  # the server accepts early data
        self._events: list[Event] = []

    # -- what users call

    def feed(self, direction: str, data: bytes) -> list[Event]:
        """The next bytes of a stream; returns what became known, in either direction."""
        dir_state = self._dir_states[direction]
        if dir_state.state is not State.HANDED_OVER:
            dir_state.decoder.feed(data)
        return self._pump()

    def deliver(self, direction: str, inner_type: int, plaintext: bytes, end: int) -> list[Event]:
        """A record that the kernel's TLS opened after the hand-over, in order, of any inner type.

        end: stream offset behind the record. Returns new keys (KeyUpdate, renegotiation). After a
        ChangeCipherSpec `awaits_peer` may hold: the keys then come with a later call for the other
        direction. `state` tells what the record did: nothing behind it is read if it is no longer
        `HANDED_OVER`.
        """
        dir_state = self._dir_states[direction]
        if dir_state.state is State.HANDED_OVER:
            if inner_type == CHANGE_CIPHER_SPEC and self.version == "1.2":
                dir_state.change_at = end
            else:
                try:
                    self._content(dir_state, inner_type, plaintext, end)
                except Refused as refusal:
                    self._fail(dir_state, str(refusal))
        return self._pump()

    def awaits_peer(self, direction: str) -> bool:
        """Handed over: a ChangeCipherSpec was delivered and its keys are not known yet."""
        return self._dir_states[direction].change_at is not None

    def state(self, direction: str) -> State:
        """The state of a direction."""
        return self._dir_states[direction].state

    def key_updates(self, direction: str) -> int:
        """KeyUpdates that the direction's sender has sent."""
        return self._dir_states[direction].key_updates

    def leftover(self, direction: str) -> int:
        """Bytes fed that no record was made of."""
        return self._dir_states[direction].decoder.waiting

    @property
    def offloadable(self) -> bool:
        """The handshake is known, and the suite is one that the engine does."""
        return self.reason is None and self.suite is not None

    @property
    def resumed(self) -> bool:
        """Whether the first handshake resumed a session (TLS 1.2: the id was echoed)."""
        client, server = self._exchanges[0].client, self._exchanges[0].server
        if client is None or server is None:
            return False
        if self.version == "1.3":
            return EXT_PRE_SHARED_KEY in server.extensions
        return bool(server.session_id) and client.session_id == server.session_id

    # -- progress

    def _pump(self) -> list[Event]:
        progress = True
        while progress:
            progress = False
            for dir_state in self._dir_states.values():
                while self._step(dir_state):
                    progress = True
        events, self._events = self._events, []
        return events

    def _step(self, dir_state: DirectionState) -> bool:
        """One record, or one other step; whether there was any."""
        if dir_state.state is State.PRELUDE:
            return self._find_hello(dir_state)
        if dir_state.state is State.HANDED_OVER and dir_state.change_at is not None:
            end = dir_state.change_at
            if not self._change_cipher(dir_state):
                return False
            dir_state.change_at = None
            if dir_state.decoder.protection is None:
                dir_state.state = State.GIVEN_UP
            self._install_event(dir_state, end)
            return True
        header = dir_state.decoder.header()
        if dir_state.state is not State.OPEN or header is None:
            return False
        wait, protected, why = self._prepare(dir_state, header)
        if wait:
            return False
        why = why or check_header(header, protected, self.version == "1.3")
        if why:
            self._events.append(dir_state.decoder.refuse(why))
            self._fail(dir_state, why)
            return False
        if not dir_state.decoder.complete():
            return False
        if header[0] == CHANGE_CIPHER_SPEC and self.version == "1.2":
            return self._take_change_cipher(dir_state, protected)
        record = dir_state.decoder.take() if protected else dir_state.decoder.take_clear()
        self._take(dir_state, record, protected)
        return True

    def _take(self, dir_state: DirectionState, record: Record, protected: bool) -> None:
        if record.outcome is not Outcome.OK:
            if dir_state.lenient:
                outcome = Outcome.SKIPPED if self._early is False else Outcome.NO_KEY
                self._events.append(_with_outcome(record, outcome))
                return
            self._events.append(record)
            self._fail(dir_state, f"{record.phase.value} record: {record.outcome.value}")
            return
        index = len(self._events)
        self._events.append(record)
        if protected and dir_state.lenient:
            dir_state.lenient = False
            if dir_state.decoder.phase is Phase.APPLICATION:
                self._finish(dir_state, record.end)
        try:
            self._content(dir_state, record.inner_type, record.plaintext, record.end)
        except Refused as refusal:
            self._events[index] = _with_outcome(record, Outcome.REFUSED, str(refusal))
            self._fail(dir_state, str(refusal))

    def _fail(self, dir_state: DirectionState, why: str) -> None:
        dir_state.state = State.FAILED
        if not dir_state.finished and self.reason is None:
            self.reason = f"handshake not readable: {why}"

    def _give_up(self, reason: str) -> None:
        for dir_state in self._dir_states.values():
            dir_state.state = State.GIVEN_UP
        if self.reason is None:
            self.reason = reason

    # -- before the handshake

    def _find_hello(self, dir_state: DirectionState) -> bool:
        data = dir_state.decoder.buffered()
        wanted = CLIENT_HELLO if dir_state.direction == "c2s" else SERVER_HELLO
        at, found = find_hello(data, wanted)
        dir_state.decoder.skip(at)
        if found:
            dir_state.state = State.OPEN
            return True
        if dir_state.decoder.position > PRELUDE_LIMIT:
            self._give_up("no TLS handshake found")
        return False

    # -- protection of the next record

    def _prepare(self, dir_state: DirectionState, header: bytes) -> tuple[bool, bool, str]:
        """Sees to it that the keys of the next record are installed.

        Returns (the peer must be seen first, the record is protected, why it is not allowed).
        """
        kind = header[0]
        in_clear = dir_state.decoder.phase is Phase.PLAIN
        if in_clear and kind in (HANDSHAKE, ALERT):
            over = self.version == "1.3" and self._exchanges[0].server is not None
            if over and dir_state.direction == "s2c" and kind == HANDSHAKE:
                return False, False, "a clear handshake record behind the ServerHello"
            return False, False, ""
        if self.version is None:
            return True, False, ""
        if self.version != "1.3":
            if in_clear and kind == APPLICATION_DATA:
                return False, False, "application data in the clear"
            return False, not in_clear, ""
        unfinished = not dir_state.finished
        if kind == CHANGE_CIPHER_SPEC and unfinished:
            return False, False, "" if header[3:5] == b"\0\1" else "ChangeCipherSpec"
        if (
            kind == ALERT
            and unfinished
            and dir_state.decoder.number == 0
            and header[3:5] == b"\0\2"
        ):
            return False, False, ""
        if kind != APPLICATION_DATA:
            return False, True, "record type behind the handshake"
        if in_clear:
            return self._start_protection(dir_state), True, ""
        return False, True, ""

    def _start_protection(self, dir_state: DirectionState) -> bool:
        """TLS 1.3: the keys of a direction's first protected record; true: the peer is missing."""
        hello, server = self._exchanges[0].client, self._exchanges[0].server
        if hello is None:
            return True
        if dir_state.direction == "c2s":
            if self._retried and self._hellos < 2:
                # Early data in front of the second ClientHello: the server skips it.
                self._early = False
                dir_state.lenient = True
                dir_state.decoder.protection = None
                return False
            if server is None:
                return True
            if EXT_EARLY_DATA in hello.extensions and not self._retried:
                if EXT_PRE_SHARED_KEY not in server.extensions:
                    self._early = False
                other = self._dir_states["s2c"]
                if self._early is None and other.state is State.OPEN and not other.finished:
                    return True
                secret = self._secret("CLIENT_EARLY_TRAFFIC_SECRET")
                if self._early and secret is not None:
                    self._install13(dir_state, secret, Phase.EARLY)
                    return False
                dir_state.lenient = True
            elif self._retried and EXT_EARLY_DATA in hello.extensions:
                self._early = False
                dir_state.lenient = True
        self._start_handshake_keys(dir_state)
        return False

    def _start_handshake_keys(self, dir_state: DirectionState) -> None:
        who = "CLIENT" if dir_state.direction == "c2s" else "SERVER"
        secret = self._secret(f"{who}_HANDSHAKE_TRAFFIC_SECRET")
        if secret is not None:
            self._install13(dir_state, secret, Phase.HANDSHAKE)
            return
        # A log with application secrets only: the first record that opens shows where they start.
        secret = self._secret(f"{who}_TRAFFIC_SECRET_0")
        if secret is not None:
            dir_state.lenient = True
            self._install13(dir_state, secret, Phase.APPLICATION)
            return
        self._no_keys(dir_state, Phase.HANDSHAKE)

    def _no_keys(self, dir_state: DirectionState, phase: Phase) -> None:
        dir_state.decoder.install(None, phase)
        if self.reason is None:
            self.reason = "no secrets in the key log"

    def _secret(self, label: str) -> bytes | None:
        hello = self._exchanges[0].client
        return None if hello is None else self.keylog.secret(label, hello.random)

    def _install13(self, dir_state: DirectionState, secret: bytes, phase: Phase) -> None:
        if self.suite is None:
            self._no_keys(dir_state, phase)
            return
        keys = tls13_keys(self.suite, secret)
        dir_state.decoder.install(Protection(self.suite, keys, True), phase)

    # -- TLS 1.2: ChangeCipherSpec

    def _take_change_cipher(self, dir_state: DirectionState, protected: bool) -> bool:
        exchange = self._exchange(dir_state.exchange)
        if exchange.client is None or exchange.server is None:
            return False
        record = dir_state.decoder.take() if protected else dir_state.decoder.take_clear()
        self._events.append(record)
        if (
            record.outcome is not Outcome.OK
            or record.plaintext != b"\1"
            or dir_state.reader.pending
        ):
            self._fail(dir_state, "ChangeCipherSpec")
        else:
            self._change_cipher(dir_state)
            if dir_state.finished:  # renegotiation; the first handshake's keys wait for Finished
                self._install_event(dir_state, record.end)
        return True

    def _change_cipher(self, dir_state: DirectionState) -> bool:
        """Installs the keys of the handshake under way; false: the other hello is missing."""
        exchange = self._exchange(dir_state.exchange)
        client, server = exchange.client, exchange.server
        if client is None or server is None:
            return False
        suite = SUITES.get(server.suite)
        master = self._master_secret(client, server)
        if suite is None or suite.tls13 or master is None or server.compression:
            self._no_keys(dir_state, Phase.APPLICATION)
            return True
        keys = tls12_keys(suite, master, client.random, server.random)[dir_state.direction]
        etm = EXT_ENCRYPT_THEN_MAC in server.extensions
        dir_state.decoder.install(Protection(suite, keys, False, etm), Phase.APPLICATION)
        return True

    def _master_secret(self, client: Hello, server: Hello) -> bytes | None:
        secret = self.keylog.secret("CLIENT_RANDOM", client.random)
        resumed = bool(client.session_id) and client.session_id == server.session_id
        if secret is None and resumed:
            ticket = client.extensions.get(EXT_SESSION_TICKET, b"")
            secret = self._sessions.get(ticket) if ticket else None
            secret = secret or self._sessions.get(server.session_id)
        if secret is not None and server.session_id:
            self._sessions.setdefault(server.session_id, secret)
        return secret

    # -- content of records

    def _content(
        self, dir_state: DirectionState, inner_type: int, plaintext: bytes, end: int
    ) -> None:
        """Handshake messages and alerts of an opened record. Raises `Refused`."""
        if dir_state.reader.pending and inner_type not in (HANDSHAKE, CHANGE_CIPHER_SPEC):
            if self.version == "1.3":
                raise Refused("a record inside a handshake message")
        if inner_type == HANDSHAKE:
            messages = dir_state.reader.feed(plaintext)
            for i, (kind, body) in enumerate(messages):
                last = i == len(messages) - 1 and not dir_state.reader.pending
                self._message(dir_state, kind, body, end, last)
        elif inner_type == ALERT:
            self._alert(dir_state, plaintext)
        elif inner_type == APPLICATION_DATA and not dir_state.finished:
            if dir_state.decoder.phase is not Phase.EARLY:
                raise Refused("application data in the handshake")

    def _alert(self, dir_state: DirectionState, alert: bytes) -> None:
        if len(alert) != 2:
            raise Refused("alert")
        level, description = alert
        if description == NO_RENEGOTIATION and dir_state.direction == "s2c":
            if self._exchanges[-1].server is None and len(self._exchanges) > 1:
                self._exchanges.pop()
                self._dir_states["c2s"].exchange -= 1
        warning = description in (USER_CANCELED,) if self.version == "1.3" else level == 1
        if description == CLOSE_NOTIFY or not warning:
            dir_state.state = State.CLOSED

    def _message(
        self, dir_state: DirectionState, kind: int, body: bytes, end: int, last: bool
    ) -> None:
        """One handshake message. last: nothing follows it in the record. Raises `Refused`."""
        client = dir_state.direction == "c2s"
        tls13 = self.version == "1.3"
        phase = dir_state.decoder.phase
        changes_keys = tls13 and kind in (SERVER_HELLO, FINISHED, KEY_UPDATE, END_OF_EARLY_DATA)
        if changes_keys and not last:
            raise Refused("a handshake message behind a key change")
        if kind == CLIENT_HELLO and client:
            self._client_hello(dir_state, _parse(kind, body))
        elif kind == SERVER_HELLO and not client:
            self._server_hello(dir_state, _parse(kind, body))
            if self.version == "1.3" and not last:
                raise Refused("a handshake message behind a key change")
        elif kind == ENCRYPTED_EXTENSIONS and tls13 and not client:
            self._early = bool(self._early is not False and _has_early_data(body))
        elif kind == END_OF_EARLY_DATA and client and phase is Phase.EARLY:
            self._start_handshake_keys(dir_state)
        elif kind == NEW_SESSION_TICKET and not client and not tls13 and len(body) > 6:
            self._ticket(dir_state, body[6:])
        elif kind == FINISHED:
            if tls13 and phase is Phase.HANDSHAKE:
                who = "CLIENT" if client else "SERVER"
                secret = self._secret(f"{who}_TRAFFIC_SECRET_0")
                if secret is None:
                    self._no_keys(dir_state, Phase.APPLICATION)
                else:
                    self._install13(dir_state, secret, Phase.APPLICATION)
                self._finish(dir_state, end)
            elif not tls13 and phase is Phase.APPLICATION and not dir_state.finished:
                self._finish(dir_state, end)
        elif kind == KEY_UPDATE and tls13 and dir_state.finished:
            self._key_update(dir_state, end)

    def _client_hello(self, dir_state: DirectionState, hello: Hello) -> None:
        if dir_state.finished and self.version == "1.3":
            raise Refused("ClientHello behind the handshake")
        if dir_state.finished:  # renegotiation
            dir_state.exchange += 1
        else:
            self._hellos += 1
        self._exchange(dir_state.exchange).client = hello

    def _server_hello(self, dir_state: DirectionState, hello: Hello) -> None:
        if hello.is_retry:
            self._retried = True
            self.version = VERSIONS.get(hello.version)
            return
        if dir_state.finished:
            dir_state.exchange += 1
        self._exchange(dir_state.exchange).server = hello
        self.version = VERSIONS.get(hello.version, f"{hello.version:#06x}")
        self.cipher = suite_name(hello.suite)
        self.suite = SUITES.get(hello.suite)
        if self.version not in ("1.2", "1.3"):
            self._give_up(f"TLS version {self.version} is not supported")
        elif self.suite is None or self.suite.tls13 != (self.version == "1.3"):
            self._give_up(f"cipher suite {self.cipher} is not supported")
        elif hello.compression:
            self._give_up("the connection is compressed")
        elif not self.suite.offloadable:
            self.reason = f"cipher suite {self.cipher} is left to software"

    def _exchange(self, index: int) -> Exchange:
        while len(self._exchanges) <= index:
            self._exchanges.append(Exchange())
        return self._exchanges[index]

    def _ticket(self, dir_state: DirectionState, ticket: bytes) -> None:
        exchange = self._exchange(dir_state.exchange)
        if exchange.client is not None and exchange.server is not None:
            secret = self._master_secret(exchange.client, exchange.server)
            if secret is not None:
                self._sessions.setdefault(ticket, secret)

    def _key_update(self, dir_state: DirectionState, end: int) -> None:
        dir_state.key_updates += 1
        protection = dir_state.decoder.protection
        if protection is not None:
            secret = next_traffic_secret(protection.suite, protection.keys.secret)
            self._install13(dir_state, secret, Phase.APPLICATION)
            self._install_event(dir_state, end)

    def _finish(self, dir_state: DirectionState, end: int) -> None:
        dir_state.finished = True
        self._install_event(dir_state, end)
        protection = dir_state.decoder.protection
        # Suites that are no business of the kernel's TLS stay with the library.
        if self.hand_over and protection is not None and protection.suite.offloadable:
            dir_state.state = State.HANDED_OVER
            dir_state.decoder.skip(dir_state.decoder.waiting)

    def _install_event(self, dir_state: DirectionState, end: int) -> None:
        decoder = dir_state.decoder
        if decoder.protection is not None:
            self._events.append(
                InstallKeys(
                    dir_state.direction, end, decoder.protection, decoder.number, decoder.epoch
                )
            )


def _parse(kind: int, body: bytes) -> Hello:
    try:
        return parse_hello(kind, body)
    except ValueError as error:
        raise Refused(f"hello: {error}") from None


def _has_early_data(body: bytes) -> bool:
    """Whether an EncryptedExtensions message accepts early data."""
    try:
        return EXT_EARLY_DATA in parse_extensions(body[2:])
    except ValueError:
        raise Refused("EncryptedExtensions") from None


def _with_outcome(record: Record, outcome: Outcome, why: str = "") -> Record:
    return replace(record, outcome=outcome, plaintext=b"", why=why)
