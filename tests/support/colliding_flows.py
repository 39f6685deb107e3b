# SPDX-License-Identifier: Apache-2.0
"""Flows that fill a flow table until one more of them moves another one."""

from collections.abc import Callable
from contextlib import suppress

from sealane.driver.device.flowtable import FlowTable, FlowTableFull
from sealane.driver.device.rx import Flow


def colliding_flows(make: Callable[[int], Flow], most: int) -> tuple[list[Flow], Flow, Flow]:
    """Fills a table of `most` flows: the flows in order, the one that moves for one more, that one.

    make: returns a flow by its port.
    """
    table: FlowTable = FlowTable(most)
    flows: list[Flow] = []
    for port in range(40001, 41000):
        if len(table) == most - 1:
            table, flows = FlowTable(most), []
        with suppress(FlowTableFull):
            writes = table.insert(make(port).key, len(flows))
            if len(writes) > 1:
                moved = next(each for each in flows if each.key == writes[0].key)
                return flows, moved, make(port)
            flows.append(make(port))
    raise AssertionError("no flow moves another one")
