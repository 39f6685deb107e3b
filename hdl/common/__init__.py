# SPDX-License-Identifier: Apache-2.0
"""Parts that every stage uses: stream layouts, ports, queues, rings and comparison rules.

Nothing here knows a stage. A layout that two stages exchange is defined here, once.
"""
