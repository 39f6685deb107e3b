# SPDX-License-Identifier: Apache-2.0
"""The divergence test: card, TCP, host and an attacker, and every packet seen by some of them.

A trial is one short TLS stream (`plan`) through a device, a TCP and `KtlsRx`. It is judged for two
failures. Forged: a record was accepted that differs from what the sender sealed at that place.
Lost: `KtlsRx` without a device, fed the bytes that TCP delivered, ends differently.

    python -m tests.trials.divergence.trial --engine model --trials 20000 --seed 0 --jobs 2
    python -m tests.trials.divergence.trial --without R1 --trials 5000

With exit status 1 the command names the seeds that broke. `--seed X --trials 1` runs one again.
`--without` removes a rule (`switches`) and succeeds only if a trial then breaks. Without proof of
position (`--without position`) none may.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import time
from collections import Counter
from functools import lru_cache
from itertools import groupby

from sealane.driver.device import flowtable
from sealane.driver.device.rx import Device
from sealane.driver.ktls.rx.offload import KtlsRx
from sealane.driver.model.device import ModelTransport
from sealane.hdl.abi.config import Config
from sealane.scripts.engines import ENGINES, open_engine
from tests.trials.divergence.host import Break, Host, draw_habits
from tests.trials.divergence.plan import plan, sender
from tests.trials.divergence.switches import RULES, SOUND, receiver, without

BLOCK = 100  # trials that a process runs in one batch


def small_config(seed: int) -> Config:
    """The device of a trial on the model, small so that everything runs full."""
    rng = random.Random(seed ^ 0x5EA1A4E)
    if rng.random() < 0.2:
        return Config(flows=4)
    return Config(
        flows=4,
        record_slots=rng.randint(2, 4),
        runs=rng.randint(3, 6),
        scan_limit=rng.choice((64, 300, 1 << 22)),
        rescan_limit=rng.choice((1, 4, 16)),
        bad_header_limit=rng.choice((1, 3, 16)),
        window=rng.choice((1 << 10, 1 << 30)),
    )


def trial(seed: int, device: Device | None = None, kind=KtlsRx) -> Counter[str]:
    """Runs one trial on a small device of its own or on `device`. Raises `Break`."""
    if device is None:
        config = small_config(seed)
        device = Device(ModelTransport(config), config)
    rng = random.Random(seed)
    stream = sender(rng)
    host = Host(device, stream, rng, draw_habits(rng, stream.version), kind)
    try:
        at_once = rng.choice((1, 1, 2, 4))
        for _, group in groupby(plan(rng, stream), lambda step: step.what):
            steps = list(group)
            size = at_once if steps[0].what == "packet" else 1
            for i in range(0, len(steps), size):
                host.step(*steps[i : i + size])
        host.finish()
        host.judge()
    except Break:
        raise
    except Exception as error:
        raise Break("error", repr(error)) from error
    finally:
        host.close()
    counts = Counter(record.how.value for record in host.records)
    counts["trials"] = 1
    counts["packets"] = host.clock
    counts["refused"] = host.refused is not None
    counts["undone"] = host.rx.counters.marks_undone
    return counts


_device: Device | None = None


def _start(engine: str, rule: str | None) -> None:
    """Prepares a process. The simulated device is kept, since a trial deletes its context."""
    global _device
    without(rule)
    flowtable.row = lru_cache(flowtable.row)  # all trials have one flow: the same few buckets
    if engine == "rtl":
        _device = Device(open_engine(engine, Config()), Config())


def _block(task) -> tuple[Counter[str], list[tuple[int, str]]]:
    seeds, rule = task
    counts: Counter[str] = Counter()
    broken = []
    for seed in seeds:
        try:
            counts += trial(seed, _device, receiver(rule))
        except Break as error:
            counts.update({"trials": 1, error.kind: 1})
            broken.append((seed, str(error)))
    return counts, broken


def run(engine: str, trials: int, seed: int, jobs: int, rule: str | None = None):
    """Runs trials `seed` to `seed + trials - 1`: sums, and (seed, what) of those that broke."""
    ends = range(seed, seed + trials)
    blocks = [(ends[i : i + BLOCK], rule) for i in range(0, trials, BLOCK)]
    total: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _start, (engine, rule)) as pool:
        for counts, some in pool.imap_unordered(_block, blocks):
            total += counts
            broken += some
            if sys.stderr.isatty():
                line = f"\r{total['trials']} of {trials} trials, {len(broken)} broke"
                print(line, end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return total, sorted(broken)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command (see the module)."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.trials.divergence.trial", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--engine", choices=ENGINES, default="model")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first trial")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--without", choices=RULES, help="remove a rule (model only)")
    given = parser.parse_args(arguments)
    if given.without and given.engine != "model":
        parser.error("--without is for the model")
    began = time.monotonic()
    total, broken = run(given.engine, given.trials, given.seed, given.jobs, given.without)
    rate = total["trials"] / (time.monotonic() - began)
    names = (
        "trials",
        "packets",
        "full",
        "partial",
        "none",
        "refused",
        "undone",
        "forged",
        "lost",
        "error",
    )
    line = " ".join(f"{name} {total[name]}" for name in names)
    print(
        f"{given.engine}{' without ' + given.without if given.without else ''}: {line} "
        f"trials/s {rate:.0f}"
    )
    for seed, what in broken[:5]:
        print(f"seed {seed}: {what[:300]}")
    return int(bool(broken) != (given.without not in (None, *SOUND)))


if __name__ == "__main__":
    sys.exit(main())
