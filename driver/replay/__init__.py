# SPDX-License-Identifier: Apache-2.0
"""Captures replayed through a device with complete hosts around it, judged by software TLS.

`rx` plays the receiving hosts, `tx` the sending ones. Only this folder and `sweep` put TLS,
kTLS, driver and device together.
"""
