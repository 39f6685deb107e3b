# SPDX-License-Identifier: Apache-2.0
"""The measurement of `sealane sweep`: generated connections over lossy paths."""
