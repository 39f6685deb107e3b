# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with the simulator; importing this costs nothing."""


class BuildError(Exception):
    """The simulator cannot be built; the text is one line that says what to do."""


class StreamError(Exception):
    """An output port of the device broke a rule of its stream."""
