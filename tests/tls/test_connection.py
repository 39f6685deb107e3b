# SPDX-License-Identifier: Apache-2.0
"""Handshakes, key changes and refusals, on OpenSSL's traffic and on hand-made records."""

import random

import pytest

from sealane.driver.tls.connection import Connection, InstallKeys, State
from sealane.driver.tls.hello import CLIENT_HELLO, find_hello
from sealane.driver.tls.keylog import Keylog
from sealane.driver.tls.records import Outcome, Phase, Record, post_handshake_messages
from tests.support.sealed_streams import KEY_UPDATE, TICKET, Sealer, Tls13, message, record
from tests.support.tls_traffic import SUITES12, SUITES13, TlsRun, talk

BOTH = ("c2s", "s2c")


class Reading:
    """A connection fed to the end, its records and keys by direction."""

    def __init__(self, run, keylog=None, sessions=None, order=None):
        text = run.keylog_text if isinstance(run, Tls13) else run.keylog
        self.tls = Connection(Keylog.parse(text if keylog is None else keylog), sessions)
        self.records = {d: [] for d in BOTH}
        self.installs = {d: [] for d in BOTH}
        for direction, data in order or run.flights:
            for event in self.tls.feed(direction, data):
                kind = self.records if isinstance(event, Record) else self.installs
                kind[event.direction].append(event)

    def app(self, direction):
        return b"".join(
            r.plaintext
            for r in self.records[direction]
            if r.inner_type == 23 and r.outcome is Outcome.OK
        )

    def outcomes(self, direction):
        return {r.outcome for r in self.records[direction]}


def agree(run, reading):
    for direction in BOTH:
        assert reading.app(direction) == run.app[direction]
        assert reading.outcomes(direction) <= {Outcome.OK}
        assert reading.tls.leftover(direction) == 0
        assert reading.tls.state(direction) is State.CLOSED
        offsets = [(r.offset, r.end) for r in reading.records[direction]]
        assert offsets[0][0] == 0 and offsets[-1][1] == len(run.stream(direction))
        assert all(a[1] == b[0] for a, b in zip(offsets, offsets[1:], strict=False))


ALL = [("1.3", s) for s in SUITES13] + [("1.2", s) for s in SUITES12]


@pytest.mark.parametrize(("version", "suite"), ALL)
def test_suites(version, suite):
    run = talk(TlsRun(version, suite).handshake())
    reading = Reading(run)
    agree(run, reading)
    assert reading.tls.version == version
    assert reading.tls.offloadable == suite.startswith("aes")
    assert (reading.tls.reason is None) == suite.startswith("aes")


def test_mac_then_encrypt():
    run = talk(TlsRun("1.2", "cbc", encrypt_then_mac=False).handshake())
    agree(run, Reading(run))


def test_old_version():
    run = TlsRun("1.1").handshake().send("c2s", b"hello").close()
    reading = Reading(run)
    assert reading.tls.reason == "TLS version 1.1 is not supported"
    assert not any(reading.installs.values()) and not reading.app("c2s")


def test_hello_retry_request():
    run = talk(TlsRun(retry=True).handshake())
    reading = Reading(run)
    agree(run, reading)
    assert [r.inner_type for r in reading.records["c2s"]][:3] == [22, 20, 22]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("tickets", [True, False])
def test_resumption(version, tickets):
    first = talk(TlsRun(version, tickets=tickets).handshake())
    second = talk(TlsRun(contexts=first.contexts, session=first.session).handshake())
    assert second.client.session_reused
    reading = Reading(second)
    agree(second, reading)
    assert reading.tls.resumed and not Reading(first).tls.resumed


@pytest.mark.parametrize("tickets", [True, False])
def test_resumption_that_the_log_misses(tickets):
    first = talk(TlsRun("1.2", tickets=tickets).handshake())
    second = talk(TlsRun(contexts=first.contexts, session=first.session).handshake())
    sessions = {}
    agree(first, Reading(first, sessions=sessions))
    agree(second, Reading(second, keylog="", sessions=sessions))
    assert Reading(second, keylog="").tls.reason == "no secrets in the key log"


@pytest.mark.parametrize("accept", [True, False])
@pytest.mark.parametrize("real", [True, False])
def test_early_data(accept, real):
    if real:
        first = talk(TlsRun(max_early_data=1 << 14).handshake())
        run = TlsRun(contexts=first.contexts, session=first.session)
        run = talk(run.early_data(b"in no round trips", accept))
        reading = Reading(run)
        agree_app = run.app["c2s"]
    else:
        run = Tls13(early=[b"one", b"", b"two"], accept=accept)
        run.write("c2s", run.client.seal(b"three"))
        reading = Reading(run)
        agree_app = b"onetwothree" if accept else b"three"
    assert reading.app("c2s") == agree_app
    early = [r for r in reading.records["c2s"] if r.phase is Phase.EARLY]
    assert bool(early) == accept
    assert (Outcome.SKIPPED in reading.outcomes("c2s")) != accept
    assert len(reading.installs["c2s"]) == 1 and reading.installs["c2s"][0].number == 0


def test_early_data_without_its_secret():
    run = Tls13(early=[b"one", b"two"])
    del run.keylog["CLIENT_EARLY_TRAFFIC_SECRET"]
    run.write("c2s", run.client.seal(b"three"))
    reading = Reading(run)
    assert reading.app("c2s") == b"three"
    assert [r.outcome for r in reading.records["c2s"]].count(Outcome.NO_KEY) == 3


def test_key_updates():
    run = TlsRun("1.3", padding=512).handshake().send("c2s", b"a" * 999)
    run.key_update("c2s").send("c2s", b"b").key_update("s2c", answer=True).send("s2c", b"c")
    run = talk(run.send("c2s", b"d"))
    reading = Reading(run)
    agree(run, reading)
    assert [reading.tls.key_updates(d) for d in BOTH] == [2, 1]
    assert [i.epoch for i in reading.installs["c2s"]] == [2, 3, 4]
    assert all(i.number == 0 for i in reading.installs["c2s"])


@pytest.mark.parametrize("who", BOTH)
def test_renegotiation(who):
    run = TlsRun("1.2").handshake().send("c2s", b"before").renegotiate(who)
    run = talk(run)
    reading = Reading(run)
    agree(run, reading)
    assert [(i.number, i.epoch) for i in reading.installs["s2c"]] == [(1, 1), (0, 2)]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_the_streams(version, seed):
    """Either side may be fed first, in any pieces: the result is the same."""
    run = talk(TlsRun(version).handshake().send("c2s", b"first"))
    chance = random.Random(seed)
    left = {d: run.stream(d) for d in BOTH}
    order = []
    while any(left.values()):
        direction = chance.choice([d for d in BOTH if left[d]])
        if seed < 2 and left[BOTH[seed]]:
            direction = BOTH[seed]
        size = chance.choice((1, 3, 100, 5000))
        order.append((direction, left[direction][:size]))
        left[direction] = left[direction][size:]
    agree(run, Reading(run, order=order))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_prelude(version):
    run = talk(TlsRun(version).handshake())
    hello_like = b"\x16\x03\x01\x00\x99\x01\x00\x00\x10\x03\x03"
    prelude = [
        ("s2c", b"220 mail ready\r\n"),
        ("c2s", b"EHLO " + hello_like + b"\r\n"),
        ("s2c", b"250 STARTTLS\r\n\x16"),
        ("c2s", b"STARTTLS\r\n"),
        ("s2c", b"220 go\r\n"),
    ]
    reading = Reading(run, order=prelude + run.flights)
    for direction in BOTH:
        skipped = sum(len(data) for d, data in prelude if d == direction)
        assert reading.app(direction) == run.app[direction]
        assert reading.records[direction][0].offset == skipped
        assert reading.installs[direction][0].offset > skipped


def test_find_hello_waits_for_what_may_come():
    data = b"xx\x16" + Tls13().stream("c2s")
    assert find_hello(b"abc", CLIENT_HELLO) == (3, False)
    assert find_hello(b"xx\x16", CLIENT_HELLO) == (2, False)
    for cut in range(4, 60):
        assert find_hello(data[:cut], CLIENT_HELLO) == (3, False)
    assert find_hello(data, CLIENT_HELLO) == (3, True)


def test_no_tls():
    tls = Connection(Keylog())
    for _ in range(2000):
        assert tls.feed("c2s", b"GET / HTTP/1.1\r\n" * 40) == []
    assert tls.reason == "no TLS handshake found"
    assert tls.state("c2s") is State.GIVEN_UP


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_missing_and_wrong_keys(version):
    run = talk(TlsRun(version).handshake())
    missing = Reading(run, keylog="")
    assert missing.tls.reason == "no secrets in the key log"
    assert missing.records["s2c"][-1].outcome is Outcome.NO_KEY
    wrong = "\n".join(
        line[:-8] + ("0" * 8 if line[-8:] != "0" * 8 else "1" * 8)
        for line in run.keylog.splitlines()
    )
    reading = Reading(run, keylog=wrong)
    assert "bad_tag" in reading.tls.reason
    assert not any(reading.installs.values())
    assert reading.records["c2s"][-1].outcome is Outcome.BAD_TAG


def test_application_secrets_only():
    run = talk(TlsRun("1.3").handshake())
    lines = [line for line in run.keylog.splitlines() if "TRAFFIC_SECRET_0" in line]
    reading = Reading(run, keylog="\n".join(lines))
    for direction in BOTH:
        assert reading.app(direction) == run.app[direction]
        assert reading.installs[direction][0].number == 1


def test_bad_tag_ends_the_direction():
    run = Tls13()
    good = run.client.seal(b"good")
    bad = bytearray(run.client.seal(b"bad"))
    bad[-1] ^= 1
    run.write("c2s", good + bytes(bad) + run.client.seal(b"after"))
    reading = Reading(run)
    assert reading.app("c2s") == b"good"
    assert reading.records["c2s"][-1].outcome is Outcome.BAD_TAG
    assert reading.tls.state("c2s") is State.FAILED
    assert reading.tls.leftover("c2s") == 5 + 5 + 1 + 16
    assert reading.tls.reason is None


@pytest.mark.parametrize(
    ("content", "kind", "padding", "wanted"),
    [
        (b"", 23, 0, Outcome.OK),
        (b"", 23, 1000, Outcome.OK),
        (b"x" * 16384, 23, 0, Outcome.OK),
        (b"x" * 16384, 23, 1, Outcome.REFUSED),
        (b"", 0, 40, Outcome.REFUSED),
        (b"", 22, 0, Outcome.REFUSED),
        (b"x", 20, 0, Outcome.REFUSED),
        (b"x", 24, 0, Outcome.REFUSED),
        (KEY_UPDATE + TICKET, 22, 0, Outcome.REFUSED),
        (TICKET + TICKET, 22, 9, Outcome.OK),
        (b"\1\0", 21, 0, Outcome.OK),
        (b"\1", 21, 0, Outcome.REFUSED),
    ],
)
def test_what_a_record_may_hold(content, kind, padding, wanted):
    run = Tls13()
    run.write("s2c", run.server.seal(content, kind, padding))
    last = Reading(run).records["s2c"][-1]
    assert last.outcome is wanted
    if wanted is Outcome.OK:
        assert (last.plaintext, last.inner_type, last.padding) == (content, kind, padding)


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\3\3\0\x20",
        b"\x17\3\4\0\x20",
        b"\x17\3\3\x41\1",
        b"\x14\3\3\0\1\1",
        b"\x47ET /",
    ],
)
def test_headers_that_tls_does_not_allow(raw):
    run = Tls13()
    run.write("c2s", run.client.seal(b"good") + raw)
    reading = Reading(run)
    assert reading.app("c2s") == b"good"
    assert reading.records["c2s"][-1].outcome is Outcome.REFUSED
    assert reading.tls.state("c2s") is State.FAILED


def test_key_update_coalesced_and_cut():
    run = Tls13(suite=0x1302)
    run.write("s2c", run.server.key_update(in_front=TICKET) + run.server.seal(b"one"))
    run.write("s2c", run.server.seal(KEY_UPDATE[:2], 22, 30))
    run.write("s2c", run.server.seal(KEY_UPDATE[2:], 22))
    run.server.rekey()
    run.write("s2c", run.server.seal(b"two"))
    reading = Reading(run)
    assert reading.app("s2c") == b"onetwo" and reading.tls.key_updates("s2c") == 2
    assert post_handshake_messages([TICKET + KEY_UPDATE[:2], KEY_UPDATE[2:]]) == [
        (4, bytes(16)),
        (24, b"\0"),
    ]


def test_nothing_is_read_behind_close_notify():
    run = Tls13()
    run.write("c2s", run.client.seal(b"\1\0", 21) + run.client.seal(b"after"))
    reading = Reading(run)
    assert reading.tls.state("c2s") is State.CLOSED and not reading.app("c2s")
    assert reading.tls.leftover("c2s") == 5 + 5 + 1 + 16


def test_clear_alert_in_place_of_a_handshake():
    run = Tls13()
    flights = run.flights[:2] + [("c2s", record(21, b"\2\x28"))]
    reading = Reading(run, order=flights)
    assert reading.tls.state("c2s") is State.CLOSED


def test_hand_over_serves_kernel_tls():
    """The keys given away and `deliver` are enough to read everything behind the handshake."""
    for run in (
        TlsRun("1.3").handshake().send("c2s", b"a").key_update("c2s").send("c2s", b"b"),
        TlsRun("1.2").handshake().send("c2s", b"a").renegotiate("c2s").send("c2s", b"b"),
        TlsRun("1.2").handshake().send("s2c", b"a").renegotiate("s2c").send("c2s", b"b"),
    ):
        run = talk(run)
        tls = Connection(Keylog.parse(run.keylog), hand_over=True)
        streams = {d: b"" for d in BOTH}
        keys, at, app = {}, {}, {d: b"" for d in BOTH}

        def note(events, keys=keys, at=at):
            for event in events:
                if isinstance(event, InstallKeys):
                    assert at.get(event.direction, event.offset) == event.offset
                    keys[event.direction] = [event.protection, event.number]
                    at[event.direction] = event.offset

        def read(direction, tls=tls, keys=keys, at=at, app=app, streams=streams, note=note):
            moved = False
            while direction in keys and tls.state(direction) is State.HANDED_OVER:
                if tls.awaits_peer(direction):
                    break
                rest = streams[direction][at[direction] :]
                length = 5 + int.from_bytes(rest[3:5], "big")
                if len(rest) < 5 or len(rest) < length:
                    break
                protection, number = keys[direction]
                opened = protection.open(number, rest[:5], rest[5:length])
                keys[direction][1] += 1
                at[direction] += length
                moved = True
                if opened.inner_type == 23:
                    app[direction] += opened.content
                else:
                    end = at[direction]
                    note(tls.deliver(direction, opened.inner_type, opened.content, end))
            return moved

        for direction, data in run.flights:
            streams[direction] += data
            note(tls.feed(direction, data))
            while any([read("c2s"), read("s2c")]):
                pass
        assert app == run.app
        assert all(tls.state(d) is State.CLOSED for d in BOTH)


def test_secrets_are_never_shown():
    run = Tls13()
    run.write("c2s", run.client.seal(b"secret text"))
    keylog = Keylog.parse(run.keylog_text)
    reading = Reading(run)
    shown = repr(keylog) + repr(reading.installs) + repr(reading.records)
    for line in run.keylog.values():
        assert line.split()[2] not in shown
    assert run.client.key.hex() not in shown and "secret text" not in shown
    assert repr(run.client.key) not in shown


def test_sealer_and_stack_agree():
    """The hand-made handshake's helper derives keys as OpenSSL does."""
    run = talk(TlsRun("1.3", "aes128").handshake())
    line = next(x for x in run.keylog.splitlines() if x.startswith("CLIENT_TRAFFIC_SECRET_0"))
    sealer = Sealer(0x1301, bytes.fromhex(line.split()[2]))
    assert sealer.seal(b"question" * 50) in run.stream("c2s")
    assert message(24, b"\0") == KEY_UPDATE
