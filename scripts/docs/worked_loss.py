# SPDX-License-Identifier: Apache-2.0
"""The worked example of a lost header: four records, seven packets, one of them late.

The packets go through the driver's `Device` with the model behind it and then, in order, into
`KtlsRx`, so marks, reasons, events and what the host makes of each record are theirs. The key is a
constant and protects nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealane.driver.crypto.gcm import record_aad
from sealane.driver.crypto.keys import CryptoInfo
from sealane.driver.device.descriptors import DeviceEvent, RxMeta, RxPacket
from sealane.driver.device.rx import Device, Flow
from sealane.driver.ktls.rx.events import RecordAccepted
from sealane.driver.ktls.rx.offload import KtlsRx, StreamRange
from sealane.driver.model.device import ModelTransport
from sealane.driver.net.checksum import ones_complement_sum
from sealane.hdl.abi.config import TAG_BYTES, VERSION_TLS13, Config
from sealane.hdl.abi.events import EventKind
from sealane.hdl.abi.meta import ProvenBy, Reason

INFO = CryptoInfo(VERSION_TLS13, bytes(range(16)), bytes(range(0x40, 0x4C)))  # protects nothing
FLOW = Flow(ip_address("10.9.0.1"), ip_address("10.9.0.2"), 443, 40000)
CONFIG = Config(flows=4)

SEQ = 1000
RECORDS, RECORD_BYTES = 4, 350
PACKET_BYTES = 200
LATE, BEHIND = 2, 5  # packet 2 comes behind packet 5


@dataclass(frozen=True)
class Arrival:
    """A packet as the device passed it on."""

    packet: int
    low: int  # TCP sequence numbers
    high: int
    passed: RxPacket
    events: tuple[DeviceEvent, ...]


@dataclass(frozen=True)
class Outcome:
    """Arrivals in their order, and what the host made of each record."""

    arrivals: tuple[Arrival, ...]
    hows: tuple[str, ...]


def stream() -> bytes:
    """Four records of 350 bytes, header and tag included."""
    text = bytes(RECORD_BYTES - 5 - TAG_BYTES - 1) + b"\x17"
    aad = record_aad(VERSION_TLS13, 0, 23, len(text) + TAG_BYTES)
    aead = AESGCM(INFO.key)
    return b"".join(aad + aead.encrypt(INFO.nonce(n), text, aad) for n in range(RECORDS))


def frame(seq: int, payload: bytes) -> bytes:
    """Ethernet, IPv4 (RFC 791) and TCP (RFC 9293) around a payload."""
    addresses = FLOW.src.packed + FLOW.dst.packed
    length = 20 + len(payload)
    ip = b"\x45\0" + (20 + length).to_bytes(2, "big") + b"\0\0\0\0\x40\6"
    ip += (ones_complement_sum(ip + addresses) ^ 0xFFFF).to_bytes(2, "big")
    head = FLOW.sport.to_bytes(2, "big") + FLOW.dport.to_bytes(2, "big")
    head += seq.to_bytes(4, "big") + b"\0\0\0\0\x50\x10\xff\xff"
    pseudo = addresses + b"\0\6" + length.to_bytes(2, "big")
    check = ones_complement_sum(pseudo + head + b"\0\0\0\0" + payload) ^ 0xFFFF
    tcp = head + check.to_bytes(2, "big") + b"\0\0" + payload
    return bytes(12) + b"\x08\0" + ip + addresses + tcp


@cache
def outcome() -> Outcome:
    """Runs the example."""
    wire = stream()
    device = Device(ModelTransport(CONFIG), CONFIG)
    handle = device.tls_dev_add(FLOW, INFO, SEQ)
    order = list(range(1, len(wire) // PACKET_BYTES + 1))
    order.insert(order.index(BEHIND), order.pop(order.index(LATE)))
    arrivals = []
    for packet in order:
        low, high = PACKET_BYTES * (packet - 1), PACKET_BYTES * packet
        (passed,) = device.receive([frame(SEQ + low, wire[low:high])])
        arrivals.append(Arrival(packet, SEQ + low, SEQ + high, passed, tuple(device.events())))
    host = KtlsRx(INFO, SEQ, handle=handle)
    hows = []
    for arrival in sorted(arrivals, key=lambda a: a.packet):
        size = arrival.high - arrival.low
        for event in host.feed([StreamRange(arrival.low, size, arrival.passed)]):
            if isinstance(event, RecordAccepted):
                hows.append(event.how.value)
    return Outcome(tuple(arrivals), tuple(hows))


def tell(event: DeviceEvent) -> str:
    """An event's fields that say something."""
    out = f"{EventKind(event.kind).name}: lost_at {event.lost_at}, guess {event.candidate_seq}"
    if event.kind == EventKind.RESUMED:
        out += f", proven_by {ProvenBy(event.proven_by).name}"
        out += f", resumed_at {event.resumed_at}, number {event.number}"
    return out


def verified(meta: RxMeta, number: int) -> bool:
    """Whether a marked packet's metadata says that record `number` completed and verified."""
    if number == meta.last_number:
        return bool(meta.last_completes)
    return number > meta.first_number or bool(meta.first_completes)


def lines() -> list[str]:
    """The example as text."""
    result = outcome()
    rows = []
    for number in range(RECORDS):
        low = SEQ + RECORD_BYTES * number
        rows.append(f"record {number}: {low}-{low + RECORD_BYTES - 1}, header at {low}")
    rows.append("")
    for arrival in result.arrivals:
        meta = arrival.passed.meta
        said = f"packet {arrival.packet}: {arrival.low}-{arrival.high - 1}  "
        if arrival.passed.marked:
            first, last = meta.first_number, meta.last_number
            said += f"marked, record {first}" + (f" and record {last}" if first < last else "")
            good = [n for n in range(first, last + 1) if verified(meta, n)]
            if good:
                said += f"; record {good[0]} complete, X = 0"
        else:
            said += Reason(meta.reason).name
        rows.append(said)
        rows += [f"    {tell(event)}" for event in arrival.events]
    rows.append("")
    rows.append(
        "what the host makes of the records: "
        + ", ".join(f"{number} {how}" for number, how in enumerate(result.hows))
    )
    return rows
