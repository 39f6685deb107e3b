# SPDX-License-Identifier: Apache-2.0
"""Counters by the names of Linux.

`NetdevCounters`: the device's, from `Documentation/networking/tls-offload.rst`, section "Error
handling / Statistics". `TlsStat`: /proc/net/tls_stat, from `Documentation/networking/tls.rst`.
`RxCounters`: what rule H came to in one direction of one connection; Linux has no such names.
`TxCounters`: how the segments of one direction were sent, and what that cost; nor for these.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class _Counters:
    def as_dict(self) -> dict[str, Any]:
        """The counters by name."""
        return asdict(self)


@dataclass
class NetdevCounters(_Counters):
    """Counters of one device.

    rx_tls_decrypted_packets, _bytes: marked packets and their TCP payload.
    rx_tls_ctx, rx_tls_del: contexts added, deleted.
    rx_tls_resync_req_pkt: packets that brought a resync request.
    rx_tls_resync_req_start, _end, _skip: asynchronous requests that were started, that ended with
    a sequence number, that were started and did not end.
    rx_tls_resync_res_ok, _skip: answers and hints given to the device, and those that came too
    late for it.
    rx_tls_err: records that completed and did not authenticate in the device.
    tx_tls_encrypted_packets, _bytes: packets that the device encrypted and their TCP payload.
    tx_tls_ctx, tx_tls_del: transmit contexts added, deleted.
    tx_tls_ooo: packets of an offloaded stream that did not begin at the next expected byte.
    tx_tls_skip_no_sync_data: of these, packets from before the start marker, passed as they are.
    tx_tls_drop_no_sync_data: packets dropped because their record is not known, or released.
    tx_tls_drop_bypass_req: packets dropped that asked for encryption and have bytes from before
    the start marker.
    tx_tls_dump_packets, _bytes: pieces of records handed to the device only to be hashed (mlx5's
    name).
    """

    rx_tls_decrypted_packets: int = 0
    rx_tls_decrypted_bytes: int = 0
    rx_tls_ctx: int = 0
    rx_tls_del: int = 0
    rx_tls_resync_req_pkt: int = 0
    rx_tls_resync_req_start: int = 0
    rx_tls_resync_req_end: int = 0
    rx_tls_resync_req_skip: int = 0
    rx_tls_resync_res_ok: int = 0
    rx_tls_resync_res_skip: int = 0
    rx_tls_err: int = 0
    tx_tls_encrypted_packets: int = 0
    tx_tls_encrypted_bytes: int = 0
    tx_tls_ctx: int = 0
    tx_tls_del: int = 0
    tx_tls_ooo: int = 0
    tx_tls_skip_no_sync_data: int = 0
    tx_tls_drop_no_sync_data: int = 0
    tx_tls_drop_bypass_req: int = 0
    tx_tls_dump_packets: int = 0
    tx_tls_dump_bytes: int = 0


@dataclass
class TlsStat(_Counters):
    """Counters of the TLS stack about the offload; `Curr` goes up and down."""

    TlsCurrRxDevice: int = 0
    TlsRxDevice: int = 0
    TlsDecryptError: int = 0
    TlsRxDeviceResync: int = 0
    TlsRxRekeyOk: int = 0
    TlsRxRekeyError: int = 0
    TlsRxRekeyReceived: int = 0
    TlsCurrTxDevice: int = 0
    TlsTxDevice: int = 0
    TlsTxRekeyOk: int = 0
    TlsTxRekeyError: int = 0


@dataclass
class RxCounters(_Counters):
    """One receive direction.

    full, partial, none: accepted records of every type, by how the hardware left them.
    refused: records that ended the connection.
    marks_undone: marked packets whose framing was not the host's, so that their text was
    encrypted again. Marked parts of mixed records are restored too and do not count here.
    verdict_mismatch: records for which the device reported a good verdict on overlapping bytes,
    but not on exactly the host's generation, epoch, number, start and end.
    without_verdict: records of marked packets only, without any verdict.
    key_updates: key changes, TLS 1.2's by ChangeCipherSpec included.
    parks_ended: parks that were answered with a go-on.
    aes_blocks: blocks of 16 bytes that the host put through AES; see `ktls.software`.
    """

    full: int = 0
    partial: int = 0
    none: int = 0
    refused: int = 0
    marks_undone: int = 0
    verdict_mismatch: int = 0
    without_verdict: int = 0
    key_updates: int = 0
    parks_ended: int = 0
    resync_requested: int = 0
    resync_confirmed: int = 0
    resync_refused: int = 0
    resync_hints: int = 0
    aes_blocks: int = 0


@dataclass
class TxCounters(_Counters):
    """One transmit direction.

    by_way: segments by the way they were sent: in_order, seek, tag, rebuild, next_record, software.
    frame_bytes, reread_bytes, tag_in_bytes, tag_out_bytes: bytes that crossed the host's bus by
    way: the frames themselves; DUMP payload; tags handed in; tags in completions.
    cpu_bytes: bytes by way that software encrypted or read for a tag.
    tag_mismatch: segments dropped because a tag computed again differed.
    tag_wait: segments held until the completion with their tag.
    orphans: segments without `encrypt` behind the start marker, which the device drops, or kTLS
    where the device knows nothing of the flow.
    device_drops: segments that the device dropped for another reason.
    undone: segments taken back because the queue was full.
    given_up: 1 if the device's stream could not be moved to where the direction is, so that
    software went on for good.
    """

    by_way: dict[str, int] = field(default_factory=dict)
    frame_bytes: dict[str, int] = field(default_factory=dict)
    reread_bytes: dict[str, int] = field(default_factory=dict)
    tag_in_bytes: dict[str, int] = field(default_factory=dict)
    tag_out_bytes: dict[str, int] = field(default_factory=dict)
    cpu_bytes: dict[str, int] = field(default_factory=dict)
    tag_mismatch: int = 0
    tag_wait: int = 0
    orphans: int = 0
    device_drops: int = 0
    undone: int = 0
    given_up: int = 0
