"""The first samples of every entry of PyTorch's operator database equal eager.

The known differences are a strict list: an entry of it that no longer differs fails. The whole
database: tools/opdb_report.py.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import exactness
import opdb
from known_differences import KNOWN, UNSAMPLED, reason_of
from own_samples import SAMPLES

from fulmen import _core

SAMPLES_OF_AN_ENTRY = 2
WORKERS = 4


def run_shard(shard: int) -> list[tuple[str, opdb.Result | str]]:
    return list(
        opdb.run_in_worker(list(range(shard, len(opdb.op_db), WORKERS)), SAMPLES_OF_AN_ENTRY)
    )


def own_symbols() -> set[str]:
    found = set()
    for name, fn, args in SAMPLES:
        result = opdb.Result("forward", "", 0)
        opdb.compare(result, name, fn, args, {})
        found |= set(result.symbols)
    return found


def test_operator_database() -> None:
    with ThreadPoolExecutor(2) as pool:
        results = [r for shard in pool.map(run_shard, range(WORKERS)) for r in shard]
    crashed = [f"{name}: {r}" for name, r in results if isinstance(r, str)]
    assert not crashed, "these entries ended the process:\n" + "\n".join(crashed)
    checked = [(name, r) for name, r in results if isinstance(r, opdb.Result) and not r.skip]
    assert len(checked) > 8000, "the database was not run"
    failed = [(name, r) for name, r in checked if not r.passed]
    unexplained = [
        f"{name} {r.check} {r.dtype} sample {r.sample}: {r.reason}"
        for name, r in failed
        if reason_of(name, r) is None
    ]
    assert not unexplained, "these differ from eager:\n" + "\n".join(unexplained)
    stale = [
        f"{entry}: {known.why}"
        for known in KNOWN
        if known.always and not exactness.with_kernels()
        for entry in known.entries.split()
        if not any(known.explains(name, r) for name, r in failed if name == entry)
    ]
    assert not stale, "these no longer differ; take them off the list:\n" + "\n".join(stale)
    regions = sum(r.regions for _, r in checked)
    assert bool(regions) == exactness.with_kernels(), f"{regions} regions"
    if regions:
        return
    seen = {symbol for _, r in checked for symbol in r.symbols} | own_symbols()
    missing = {symbol.name for symbol in _core.symbols()} - seen
    new = sorted(missing - set(UNSAMPLED))
    assert not new, f"give these rows a call in own_samples.py: {new}"
    assert sorted(set(UNSAMPLED) - missing) == [], (
        "samples reach these rows; take them off the list"
    )
