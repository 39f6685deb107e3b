# SPDX-License-Identifier: Apache-2.0
"""Bytes that a retransmitted segment costs by each way, on the captures with loss."""

import pytest

from sealane.driver.ktls.tx.plan import Way
from sealane.driver.model.tx.device import TxModel
from sealane.scripts import tx_cost
from tests.support.replays import CAPTURES
from tests.support.tx_replays import keylog_of, packets_of

CLIENT, SERVER = "l3_tls12_aes128_loss3_cli", "l3_tls13_aes256_loss3_srv"
# By way: retransmitted segments, their bytes, bytes read again for them.
KNOWN = {
    CLIENT: {
        Way.SEEK: (133, 180_044, 0),
        Way.TAG: (22, 29_831, 0),
        Way.REBUILD: (155, 209_875, 733_115 + 79_616),
    },
    SERVER: {
        Way.SEEK: (23, 31_580, 0),
        Way.TAG: (9, 11_759, 0),
        Way.REBUILD: (32, 43_339, 118_098 + 46_101),
    },
}


@pytest.mark.parametrize("name", [CLIENT, SERVER])
def test_bytes_read_again(name):
    """None by seek and with the tag that is known; the record's beginning by rebuilding."""
    costs = {cost.way: cost for cost in tx_cost.costs_of(packets_of(name), keylog_of(name))}
    assert list(costs) == [w for w in Way if w is not Way.IN_ORDER]
    for way, known in KNOWN[name].items():
        cost = costs[way]
        assert (cost.segments, cost.payload, cost.reread) == known
        assert cost.cpu == 0
    assert costs[Way.SEEK].new == costs[Way.TAG].new == 0
    assert costs[Way.REBUILD].reread > 3 * costs[Way.REBUILD].payload
    for way in (Way.NEXT_RECORD, Way.SOFTWARE):
        assert costs[way].reread == 0 and costs[way].new > 0
        assert costs[way].cpu > costs[way].payload


def test_table(capsys):
    name = SERVER
    arguments = [str(CAPTURES / f"{name}.pcap.gz"), "--keylog", str(CAPTURES / f"{name}.keys")]
    assert tx_cost.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 88 for line in lines)
    cells = {line.split()[0]: line.split()[1:] for line in lines if line[:1].isalpha()}
    assert cells["seek"] == ["23", "1373", "0", "0.0", "0", "0"]
    assert cells["rebuild"] == ["32", "1354", "5131", "3.8", "0", "12"]


def test_nothing_to_measure():
    """Without retransmissions there is no cost of one."""
    costs = tx_cost.costs_of(packets_of("c27_chacha_tls13"), keylog_of("c27_chacha_tls13"))
    assert {cost.segments for cost in costs} == {0}
    assert {(cost.times, cost.per_segment(cost.reread)) for cost in costs} == {("-", "-")}


def test_bad_input(tmp_path, capsys):
    """One line, and status 2."""
    keys = str(CAPTURES / f"{SERVER}.keys")
    assert tx_cost.main([keys, "--keylog", keys]) == 2
    assert tx_cost.main([str(tmp_path / "none"), "--keylog", keys]) == 2
    out = capsys.readouterr()
    assert out.out == "" and len(out.err.splitlines()) == 2


def test_a_replay_that_is_not_the_capture_measures_nothing(monkeypatch):
    poll = TxModel.poll

    def spoilt(self):
        out = poll(self)
        return out._replace(frames=[f[:-1] + bytes([f[-1] ^ 1]) for f in out.frames])

    monkeypatch.setattr(TxModel, "poll", spoilt)
    with pytest.raises(ValueError, match="not the capture's"):
        tx_cost.costs_of(packets_of(SERVER), keylog_of(SERVER))
