"""Runs the tests that compare with a tolerance under several code generators of XLA's CPU compiler.

    python tests/support/code_generators.py [options of pytest]

The processor's instructions and the compiler's optimisation decide in which order sums are made and
which products are fused with them, so a result is rounded elsewhere on another machine. Prints of
each test the largest share of a tolerance that it used, and ends with 1 if a test failed or a share
is above a half; only what is promised of the authors' numbers may be used up.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]
FOLDER = ROOT / ".cache" / "tolerances"
MOST = 0.5
PROMISED = "tests/models/test_golden.py"  # the authors' numbers to 1e-4: may be used up
QUICK = "-m", "not slow and not fault"
LEVELS = {"unoptimised": "--xla_backend_optimization_level=0", "optimised": ""}
INSTRUCTIONS = {"default": "", **{isa: f"--xla_cpu_max_isa={isa}" for isa in ("AVX2", "SSE4_2")}}


def run(name, flags, words):
    """Runs pytest with the flags; returns whether all passed, and {test: {line: share}}."""
    file = FOLDER / f"{name.replace(' ', '_')}.json"
    file.unlink(missing_ok=True)
    paths = str(ROOT), str(SUPPORT), os.environ.get("PYTHONPATH", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tolerances", f"--tolerances={file}"]
    print(f"== {name}", flush=True)
    done = subprocess.run([*command, *words], cwd=ROOT, env=environment)
    return done.returncode == 0, json.loads(file.read_text()) if file.exists() else {}


def largest(found):
    """Returns [share, test, line, code generator], the largest of each test, in falling order."""
    best = {}
    for generator, tests in found.items():
        for test, lines in tests.items():
            line, share = max(lines.items(), key=lambda item: item[1])
            best[test] = max(best.get(test, (-1.0,)), (share, test, line, generator))
    return sorted(best.values(), reverse=True)


def main(words):
    """Runs all tests once, those that compare under every code generator; prints the table."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    words, chosen = [*QUICK, *words], []
    found, passed = {}, True
    for isa, instructions in INSTRUCTIONS.items():
        for level, optimisation in LEVELS.items():
            name = f"{isa} {level}"
            good, found[name] = run(name, f"{instructions} {optimisation}", words + chosen)
            passed = passed and good
            if not chosen:  # the first run has found which tests compare
                (FOLDER / "tests").write_text("\n".join(found[name]))
                chosen = [f"@{FOLDER / 'tests'}"]
                words = [word for word in words if not (ROOT / word.partition("::")[0]).exists()]
    rows = largest(found)
    for share, test, line, generator in rows:
        print(f"{100 * share:6.1f} %  {test}  ({line}, {generator})")
    above = sum(share > MOST and not test.startswith(PROMISED) for share, test, *_ in rows)
    print(f"{len(rows)} tests compare with a tolerance; {above} use too much of it")
    return int(bool(above) or not passed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
