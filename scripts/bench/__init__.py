# SPDX-License-Identifier: Apache-2.0
"""`sealane bench`: the command and the traffic that it generates."""
