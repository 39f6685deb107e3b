# SPDX-License-Identifier: Apache-2.0
"""`sealane replay`: the command, its tables and its picture."""
