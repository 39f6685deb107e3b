# SPDX-License-Identifier: Apache-2.0
"""`sealane sweep`: the command and its picture."""
