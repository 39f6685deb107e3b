# SPDX-License-Identifier: Apache-2.0
"""The receive walker as software; files match those of `hdl/walker`."""
