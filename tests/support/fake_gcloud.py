"""Emulates `gcloud` for one slice, whose workers are folders, and runs commands for real.

It has the commands that launch/tpu_pod.sh uses, refuses any other argument, and behaves like the
real one: `ssh --worker=all` runs on all workers in parallel, waits for all, repeats a worker's
command when the connection drops (255), and exits with the first bad code in the order of the
workers. FAKE names a folder with plan.json, which lists the faults to emulate.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FAKE = Path(os.environ.get("FAKE", ""))
SLICE = FAKE / "slice"
FLAGS = {
    "queued-resources create": {
        *("--node-id", "--accelerator-type", "--runtime-version", "--spot", "--scopes"),
        *("--internal-ips", "--network", "--subnetwork", "--service-account"),
    },
    "queued-resources describe": {"--format"},
    "queued-resources delete": {"--force", "--quiet"},
    "tpu-vm describe": {"--format"},
    "tpu-vm ssh": {"--worker", "--command", "--internal-ip"},
    "tpu-vm scp": {"--worker", "--internal-ip"},
}


def main(words):
    with (FAKE / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(words) + "\n")
    command, rest = " ".join(words[2:4]), words[4:]
    names = [word for word in rest if not word.startswith("--")]
    flags = dict((word.split("=", 1) + [""])[:2] for word in rest if word.startswith("--"))
    known = FLAGS.get(command, set()) | {"--zone", "--project"}
    if words[:2] != ["compute", "tpus"] or command not in FLAGS or set(flags) - known:
        sys.exit(f"ERROR: unrecognized arguments: {words}")
    plan = json.loads((FAKE / "plan.json").read_text())
    run = {
        "queued-resources create": create,
        "queued-resources describe": describe_request,
        "queued-resources delete": delete,
        "tpu-vm describe": describe_node,
        "tpu-vm ssh": ssh,
        "tpu-vm scp": scp,
    }[command]
    maybe_preempt(plan, flags)
    code = run(plan, names, flags)
    whole = FAKE / f"plan.{os.getpid()}"  # Ctrl-C may come while it is written
    whole.write_text(json.dumps(plan))
    whole.replace(FAKE / "plan.json")
    return code


def maybe_preempt(plan, flags):
    """Takes the slice away once the trigger of the plan is there, as often as it says."""
    seen = list(FAKE.glob(plan["preempt_when"])) if plan["preempt_when"] else []
    if seen and plan["preemptions"] and SLICE.exists() and "state" in flags.get("--command", ""):
        plan["preemptions"] -= 1
        for path in seen:
            path.rename(path.with_name(path.name + ".seen")) if path.suffix == ".now" else None
        plan["state"] = plan["taken_state"]
        kill()


def kill():
    for path in SLICE.glob("*/segdiff/pid"):
        try:
            os.killpg(os.getpgid(int(path.read_text())), signal.SIGKILL)
        except ProcessLookupError:
            pass


def create(plan, names, flags):
    if plan["refusals"]:
        plan["refusals"] -= 1
        sys.stderr.write("ERROR: RESOURCE_EXHAUSTED: no more capacity in the zone\n")
        return 1
    if SLICE.exists():
        sys.stderr.write("ERROR: ALREADY_EXISTS\n")
        return 1
    for i in range(plan["workers"]):
        (SLICE / f"worker-{i}").mkdir(parents=True)
    plan["state"] = "READY"
    plan["looks"] = 0
    return 0


def describe_request(plan, names, flags):
    if not SLICE.exists():
        sys.stderr.write("ERROR: (gcloud...) NOT_FOUND: Resource was not found\n")
        return 1
    plan["looks"] += 1
    if plan["looks"] <= plan["queue"]:
        print("WAITING_FOR_RESOURCES")
    else:
        print("ACTIVE" if plan["state"] in ("READY", "PREEMPTED") else plan["state"])
    return 0


def describe_node(plan, names, flags):
    if not SLICE.exists():
        sys.stderr.write("ERROR: (gcloud...) NOT_FOUND: Resource was not found\n")
        return 1
    counts = flags["--format"] == "value(networkEndpoints.len())"
    print(plan["workers"] if counts else plan["state"])
    return 0


def delete(plan, names, flags):
    if plan["undeletable"]:
        sys.stderr.write("ERROR: INTERNAL\n")
        return 1
    kill()
    shutil.rmtree(SLICE)
    return 0


def chosen(plan, flags):
    every = range(plan["workers"])
    return every if flags["--worker"] == "all" else [int(flags["--worker"])]


def environment(i):
    passed = {"PATH", "LANG", "FAKE", "SEGDIFF_STOP_SECONDS", "JAX_COMPILATION_CACHE_DIR"}
    kept = {name: value for name, value in os.environ.items() if name in passed}
    for word in os.environ.get("FAKE_ENVIRONMENT", "").split():
        name, value = word.split(":", 1)
        kept[name] = value.replace("WORKER", str(i))
    return kept | {"HOME": str(SLICE / f"worker-{i}"), "HOSTNAME": f"worker-{i}"}


def ssh(plan, names, flags):
    if plan["state"] != "READY":
        sys.stderr.write("ssh: connect to host: Connection timed out\n")
        return 255

    def on(i):
        for _ in range(10):
            done = subprocess.run(
                ["bash", "-c", flags["--command"]],
                cwd=SLICE / f"worker-{i}",
                env=environment(i),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
            )
            drop = FAKE / f"drop-{i}"  # the command ran, and the connection dropped before its end
            if drop.exists() and re.search(r"\bstart\b", flags["--command"]):
                drop.unlink()
                continue
            sys.stdout.write(done.stdout)
            return done.returncode
        return 255

    with ThreadPoolExecutor() as pool:
        codes = list(pool.map(on, chosen(plan, flags)))
    return next((code for code in codes if code), 0)


def scp(plan, names, flags):
    if plan["state"] != "READY":
        return 255
    *sources, target = names
    for i in chosen(plan, flags):
        for source in sources:
            shutil.copy(source, SLICE / f"worker-{i}" / target.split(":", 1)[1])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
