# SPDX-License-Identifier: Apache-2.0
"""Writers of generated documentation. `make docs` runs them, `make docs-check` compares."""
