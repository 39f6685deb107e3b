# SPDX-License-Identifier: Apache-2.0
"""The devices that a command can run on: the behavioural model or the simulated gateware."""

from pathlib import Path
from typing import TYPE_CHECKING

from sealane.driver.device.transport import Transport
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import Config

from .outputs import UsageError

if TYPE_CHECKING:
    from sealane.sim.transport import RtlTransport

ENGINES = ("model", "rtl")


def open_engine(name: str, config: Config, waves: Path | None = None) -> Transport:
    """The device with these parameters, to be closed; a simulator is built if need be.

    waves: file for the waves (FST). Raises `UsageError` on waves of the model, `BuildError` where
    there is no simulator to be had and `OSError` on a file that cannot be written.
    """
    if name == "model":
        if waves is not None:
            raise UsageError("--waves needs --engine rtl")
        return ModelTransport(config)
    return open_simulator(config, waves)


def open_simulator(config: Config, waves: Path | None = None) -> "RtlTransport":
    """The simulated gateware; raises as `open_engine`."""
    # Not at the top: the model must work where no simulator can be built.
    from sealane.sim.transport import RtlTransport

    return RtlTransport(config, waves)
