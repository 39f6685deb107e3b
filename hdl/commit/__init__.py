# SPDX-License-Identifier: Apache-2.0
"""The last stage of receive: decides on the mark, then sends frame, metadata and events.

Knows packets and verdicts. Knows neither keys nor record headers.
"""
