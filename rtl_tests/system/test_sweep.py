# SPDX-License-Identifier: Apache-2.0
"""`sealane sweep` on the Verilated gateware: the same counts as on the model, to the record.

The sizes of the published points, 4 slots with 8 runs and 5 with 12, on few records; thousands by
command (`sealane sweep --engine rtl`).
"""

import pytest

from sealane.driver.device.rx import Device
from sealane.driver.model.device import ModelTransport
from sealane.driver.sweep.lossy_path import Connection, Path
from sealane.hdl.abi.config import VERSION_TLS12, Config
from sealane.sim.transport import RtlTransport

PATHS = [Path(loss=5), Path(reorder=20), Path(loss=3, reorder=5, version=VERSION_TLS12)]


# A simulator of its own takes minutes of a processor.
FOUR_EIGHT = pytest.param(Config(record_slots=4, runs=8), marks=pytest.mark.long)


@pytest.mark.parametrize("config", [FOUR_EIGHT, Config()], ids=["4-8", "5-12"])
def test_gateware_and_model_count_alike(config):
    """Connections one behind the other through one device; packets by reason as well."""
    with RtlTransport(config) as transport:
        for i, path in enumerate(PATHS):
            rtl = Connection(Device(transport, config), path, i, 100).run()
            model = Connection(Device(ModelTransport(config), config), path, i, 100).run()
            assert rtl == model
            assert rtl.records == 100 and rtl.wrong_marks == 0
