# SPDX-License-Identifier: Apache-2.0
"""The common part of the random-trial commands: options, processes and output."""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from sealane.scripts.engines import ENGINES

BLOCK = 250  # trials that a process runs in one batch


def trial_parser(doc: str, engines: Sequence[str] = ENGINES) -> argparse.ArgumentParser:
    """A parser with the common options of these commands. doc: the module's docstring."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--engine", choices=engines, default="model")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first trial")
    parser.add_argument("--jobs", type=int, default=1)
    return parser


def run_blocks(options: argparse.Namespace, chunk, kind, total) -> int:
    """Runs all trials and returns the exit status, which is 1 if one broke.

    chunk: a function of (seeds, engine, kind) that returns a tally and is callable in another
    process. kind: its last argument. total: an empty tally.
    """
    seeds = range(options.seed, options.seed + options.trials)
    size = max(1, min(BLOCK, -(-len(seeds) // options.jobs)))
    chunks = [(seeds[i : i + size], options.engine, kind) for i in range(0, len(seeds), size)]
    began = time.monotonic()
    with ExitStack() as stack:
        parts = map(chunk, chunks)
        if options.jobs > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(options.jobs))
            parts = pool.imap(chunk, chunks)
        for part in parts:
            total.add(part)
            for line in part.breaks:
                print(line, flush=True)
            if sys.stderr.isatty():
                print(
                    f"\r{total.trials} of {len(seeds)}, {len(total.breaks)} breaks",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(f"{options.engine}: {total} ({time.monotonic() - began:.0f} s)")
    return 1 if total.breaks else 0
