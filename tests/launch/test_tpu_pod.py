"""launch/tpu_pod.sh and worker.sh against a gcloud that runs the workers on this machine."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_gcloud import FLAGS
from job_processes import losses, write_config
from tiny_config import ROOT

from launch.local import Job, Layout, free_port
from segdiff_jax import errors

pytestmark = pytest.mark.fault

SCRIPT = ROOT / "launch" / "tpu_pod.sh"
PLAN = {
    **{"workers": 2, "queue": 0, "refusals": 0, "undeletable": False, "state": "", "looks": 0},
    **{"preempt_when": "", "preemptions": 0, "taken_state": "SUSPENDED"},
}
TRAINING = ["--workdir=bucket/run", "--config=configs/synthetic.py"]
# Counts to three, one step each time it is started; what it has counted survives in the bucket.
COUNTING = """
n=$(cat bucket/count-$HOSTNAME 2>/dev/null || echo 0)
echo $((n + 1)) >bucket/count-$HOSTNAME
"""
PROGRAMS = {
    "gcloud": f'exec {sys.executable} -IS {ROOT}/tests/support/fake_gcloud.py "$@"',
    "gcsfuse": 'rmdir "${@: -1}" && ln -s "$FAKE/bucket" "${@: -1}"',
    "mountpoint": '[[ -L "${@: -1}" ]]',
    "python3.13": """
if [[ $2 == venv ]]; then mkdir -p "$3/bin" && cp "$FAKE/bin/venv_python" "$3/bin/python"; fi""",
    "venv_python": """
if [[ $2 == pip ]]; then
  echo "$*" >>"$FAKE/bucket/installs"
else
  printf '%q ' "$@" >>"$FAKE/bucket/commands-$HOSTNAME"
  echo >>"$FAKE/bucket/commands-$HOSTNAME"
  . "$FAKE/training"
fi""",
}


class Cloud:
    """A place where tpu_pod.sh finds the fake gcloud, and what happened there."""

    def __init__(self, path):
        self.path, self.bucket, self.launchers = path, path / "bucket", []
        (path / "bin").mkdir()
        self.bucket.mkdir()
        for name, text in PROGRAMS.items():
            program = path / "bin" / name
            program.write_text(f"#!/usr/bin/env bash\n{text}\n")
            program.chmod(0o755)
        self.plan()
        self.training(COUNTING)
        self.environment = os.environ | {
            "PATH": f"{path / 'bin'}:{os.environ['PATH']}",
            "FAKE": str(path),
            "SEGDIFF_STOP_SECONDS": "2",
        }

    def plan(self, **changes):
        (self.path / "plan.json").write_text(json.dumps(PLAN | changes))

    def training(self, text):
        (self.path / "training").write_text(text)

    def command(self, *words, training=TRAINING):
        command, *rest = words
        ours = ["--zone=us-west4-a", "--poll=0.1", *rest]
        if command in ("create", "resume-loop"):
            ours.append("--type=v5litepod-16")
        if command in ("install", "run", "resume-loop"):
            ours.append("--bucket=bucket-1")
        if command in ("run", "resume-loop"):
            ours += ["--", *training]
        return [str(SCRIPT), command, "slice-1", *ours]

    def run(self, *words, training=TRAINING):
        return subprocess.run(
            self.command(*words, training=training),
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=1500,
        )

    def start(self, *words):
        launcher = subprocess.Popen(
            self.command(*words),
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.launchers.append(launcher)
        return launcher

    def calls(self, command=None):
        path = self.path / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        calls = [json.loads(line) for line in lines]
        return [call for call in calls if command in (None, " ".join(call[2:4]))]

    def trained(self, worker=0):
        """What segdiff_jax.main was started with, time after time."""
        path = self.bucket / f"commands-worker-{worker}"
        return path.read_text().splitlines() if path.exists() else []

    def exists(self):
        return (self.path / "slice").exists()

    def kill(self):
        for launcher in self.launchers:
            if launcher.poll() is None:
                os.killpg(launcher.pid, signal.SIGKILL)
            launcher.communicate()
        for path in self.path.glob("slice/*/segdiff/pid"):
            try:
                os.killpg(os.getpgid(int(path.read_text())), signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture
def cloud(tmp_path, request):
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.kill()
    if starts := len(cloud.trained()):
        slices = len(cloud.calls("queued-resources create"))
        print(f"launcher: {request.node.name}: {slices} requests, {starts} starts on a worker")


def charged(done):
    return "EXISTS AND IS CHARGED FOR" in done.stderr


def test_the_loop_creates_waits_installs_runs_and_deletes(cloud):
    cloud.plan(queue=2)
    done = cloud.run("resume-loop", "--spot")
    assert done.returncode == 0, done.stderr
    (create,) = cloud.calls("queued-resources create")
    assert {"--spot", "--node-id=slice-1", "--runtime-version=v2-alpha-tpuv5-lite"} <= set(create)
    words = (
        "-m segdiff_jax.main --coordinator=auto --workdir=bucket/run --config=configs/synthetic.py"
    )
    for worker in (0, 1):
        assert [line.split() for line in cloud.trained(worker)] == [words.split()]
    assert not cloud.exists() and not charged(done)
    assert len(cloud.calls("queued-resources delete")) == 1


@pytest.mark.parametrize("state", ["SUSPENDED", "PREEMPTED"])
def test_a_preempted_run_is_recreated_and_goes_on_in_the_bucket(cloud, state):
    cloud.plan(preempt_when="bucket/first.now", preemptions=1, taken_state=state)
    cloud.training(
        COUNTING + "if ((n == 0)); then touch bucket/first.now; sleep 50; fi; echo step $n"
    )
    done = cloud.run("resume-loop", "--spot")
    assert done.returncode == 0, done.stderr
    assert len(cloud.calls("queued-resources create")) == 2
    assert len(cloud.trained()) == 2 and not cloud.exists()
    assert (cloud.bucket / "count-worker-0").read_text() == "2\n"


def test_a_slice_that_is_preempted_for_ever_is_given_up(cloud):
    cloud.plan(preempt_when="bucket/count-*", preemptions=99)
    cloud.training(COUNTING + "sleep 50")
    done = cloud.run("resume-loop", "--spot", "--retries=2")
    assert done.returncode == 69
    assert len(cloud.calls("queued-resources create")) == 3
    assert "2 restarts were not enough" in done.stderr and not cloud.exists()


@pytest.mark.parametrize("code", [64, 130])
def test_a_failure_that_stays_is_not_tried_again(cloud, code):
    """Worker 0 only lost its peer; the reason is the code of worker 1."""
    cloud.training(f"{COUNTING}if [[ $HOSTNAME == *1 ]]; then sleep 0.3; exit {code}; fi; exit 134")
    done = cloud.run("resume-loop")
    assert done.returncode == code, done.stderr
    assert len(cloud.trained(1)) == 1 and not cloud.exists()


@pytest.mark.parametrize("code", [1, 143])
def test_a_failure_that_may_pass_is_tried_again_on_the_same_slice(cloud, code):
    cloud.training(COUNTING + f"if ((n < 2)); then exit {code}; fi")
    done = cloud.run("resume-loop")
    assert done.returncode == 0, done.stderr
    assert len(cloud.calls("queued-resources create")) == 1 and len(cloud.trained()) == 3


def test_restarts_are_bounded_and_the_last_code_is_returned(cloud):
    cloud.training(COUNTING + "exit 134")
    done = cloud.run("resume-loop", "--retries=2")
    assert done.returncode == 134
    assert len(cloud.trained()) == 3 and not cloud.exists()


def test_a_worker_that_hangs_when_another_fails_is_ended_before_the_restart(cloud):
    cloud.training(
        COUNTING + "if ((n)); then exit; fi; [[ $HOSTNAME == *1 ]] && exit 134; exec sleep 50"
    )
    done = cloud.run("resume-loop")
    assert done.returncode == 0, done.stderr
    assert len(cloud.trained(0)) == len(cloud.trained(1)) == 2


def test_a_job_whose_supervisor_was_killed_counts_as_killed(cloud):
    cloud.training(COUNTING + "if ((n == 0)); then kill -9 $PPID; fi")
    done = cloud.run("resume-loop")
    assert done.returncode == 0 and "lost 137" in done.stdout
    assert len(cloud.trained()) == 2


def test_a_dropped_connection_does_not_start_the_training_twice(cloud):
    for worker in (0, 1):
        (cloud.path / f"drop-{worker}").touch()
    cloud.training(COUNTING + "sleep 1")
    done = cloud.run("resume-loop")
    assert done.returncode == 0, done.stderr
    assert len(cloud.trained(0)) == len(cloud.trained(1)) == 1


def test_refused_capacity_is_asked_for_again_and_then_given_up(cloud):
    cloud.plan(refusals=3)
    assert cloud.run("resume-loop").returncode == 0
    assert len(cloud.calls("queued-resources create")) == 4
    cloud.plan(refusals=99)
    done = cloud.run("resume-loop")
    assert done.returncode == 69 and not charged(done)
    assert len(cloud.calls("queued-resources create")) == 4 + 5


def test_keep_leaves_the_slice_and_says_so(cloud):
    done = cloud.run("resume-loop", "--keep")
    assert done.returncode == 0 and cloud.exists() and charged(done)
    assert "tpu_pod.sh delete slice-1 --zone=us-west4-a" in done.stderr


def test_a_slice_that_cannot_be_deleted_ends_with_69(cloud):
    cloud.plan(undeletable=True)
    done = cloud.run("resume-loop")
    assert done.returncode == 69 and charged(done)
    assert len(cloud.calls("queued-resources delete")) == 3


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_ctrl_c_says_what_is_still_running_and_the_same_command_joins_in(cloud):
    cloud.training(COUNTING + "until [[ -e bucket/go ]]; do sleep 0.1; done")
    process = cloud.start("resume-loop")
    wait_until(lambda: cloud.trained(1))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "EXISTS AND IS CHARGED FOR" in error and "tpu_pod.sh delete slice-1" in error
    assert cloud.exists() and not cloud.calls("queued-resources delete")
    process = cloud.start("resume-loop")
    assert "attempt 1 was started before" in process.stdout.readline()
    (cloud.bucket / "go").touch()
    assert process.communicate(timeout=60) and process.returncode == 0
    assert len(cloud.trained(0)) == len(cloud.trained(1)) == 1 and not cloud.exists()


def test_another_training_on_the_slice_is_neither_replaced_nor_deleted(cloud):
    cloud.training(COUNTING + "exec sleep 50")
    for command in ("create", "install", "run"):
        done = cloud.run(command)
        assert done.returncode == 0 and charged(done), done.stderr
    done = cloud.run("resume-loop", training=["--workdir=bucket/other"])
    assert done.returncode == 64 and cloud.exists() and charged(done)
    assert len(cloud.trained()) == 1


def test_the_commands_one_by_one(cloud):
    cloud.training("echo said $*; until [[ -e bucket/go ]]; do sleep 0.1; done; exit 65")
    assert cloud.run("wait").returncode == 69
    for command in ("create", "wait", "install", "run", "run"):
        assert cloud.run(command).returncode == 0
    assert "worker worker-1 1 running - said" in cloud.run("status").stdout
    (cloud.bucket / "go").touch()
    followed = cloud.run("follow", "--worker=1")
    assert followed.returncode == 65 and "said -m segdiff_jax.main" in followed.stdout
    assert "worker worker-0 1 exited 65" in cloud.run("status").stdout
    assert len(cloud.trained()) == 1
    assert cloud.run("delete").returncode == 0 and not cloud.exists()


def test_stop_ends_the_training_for_good(cloud):
    cloud.training("trap 'echo saved >bucket/saved; exit 143' TERM; while true; do sleep 0.1; done")
    for command in ("create", "install", "run", "stop"):
        assert cloud.run(command).returncode == 0
    assert (cloud.bucket / "saved").exists()
    assert "exited 130" in cloud.run("status").stdout


def test_a_training_that_does_not_stop_is_killed(cloud):
    cloud.training("trap '' TERM; while true; do sleep 0.1; done")
    for command in ("create", "install", "run", "stop"):
        assert cloud.run(command).returncode == 0
    assert "exited 130" in cloud.run("status").stdout


def test_sigterm_to_the_whole_machine_records_the_code_of_the_training(cloud):
    """As at a preemption: the supervisor gets the signal, too, and must not end before the job."""
    cloud.training("trap 'sleep 1; exit 143' TERM; while true; do sleep 0.1; done")
    for command in ("create", "install", "run"):
        assert cloud.run(command).returncode == 0
    for path in cloud.path.glob("slice/*/segdiff/pid"):
        os.killpg(os.getpgid(int(path.read_text())), signal.SIGTERM)
    assert cloud.run("follow").returncode == 143


HOSTILE = ["$(touch PWNED)", "a;touch PWNED", "a b", "`touch PWNED`", "A", "-a", "a-", "a" * 64, ""]


@pytest.mark.parametrize("name", [*HOSTILE, "a\ntouch PWNED", "../a", "ä"])
def test_hostile_names_are_refused_and_nothing_is_executed(cloud, name):
    for words in (
        ["delete", name, "--zone=us-west4-a"],
        ["create", "a", "--zone=us-west4-a", "--type=v4-8", f"--network={name}"],
        ["create", "a", "--type=v4-8", f"--zone={name}"],
        ["create", "a", "--zone=us-west4-a", f"--type={name}"],
        ["create", "a", "--zone=us-west4-a", "--type=v4-8", f"--runtime={name};"],
        ["create", "a", "--zone=us-west4-a", "--type=v4-8", f"--project={name}"],
        ["install", "a", "--zone=us-west4-a", f"--bucket={name}"],
    ):
        done = subprocess.run(
            [SCRIPT, *words], env=cloud.environment, cwd=cloud.path, capture_output=True, text=True
        )
        assert done.returncode == 64, (words, done.stderr)
        assert done.stderr.startswith("tpu_pod: ") and "must be" in done.stderr
    assert not cloud.calls() and not list(cloud.path.rglob("PWNED"))


def test_hostile_arguments_of_the_training_stay_words(cloud):
    hostile = ["--a=$(touch PWNED)", "b;touch PWNED", "c d", "`touch PWNED`", "e\nf", "'", '"', "ä"]
    cloud.training('printf "%s\\0" "$@" >bucket/words')
    training = ["--workdir=bucket/$(touch PWNED)", *hostile]
    assert cloud.run("resume-loop", training=training).returncode == 0
    words = (cloud.bucket / "words").read_text().split("\0")[:-1]
    assert words == ["-m", "segdiff_jax.main", "--coordinator=auto", *training]
    assert not list(cloud.path.rglob("PWNED"))


@pytest.mark.parametrize(
    "words, training, message",
    [
        (["fly", "a"], [], "no such command"),
        (["create"], [], "NAME"),
        (["create", "a"], [], "--zone is missing"),
        (["create", "a", "--zone=us-west4-a"], [], "--type is missing"),
        (["create", "a", "--zone=us-west4-a", "--typo"], [], "no such option"),
        (["create", "a", "--zone=us-west4-a", "--type=tpu7x-8"], [], "gke_jobset.yaml"),
        (["run", "a", "--zone=us-west4-a", "--attempt=0"], [], "a number from 1"),
        (["run", "a", "--zone=us-west4-a"], ["--coordinator=x:1"], "is set here"),
        (["run", "a", "--zone=us-west4-a"], ["--workdir=gs://b/c"], "--bucket=BUCKET"),
        (["run", "a", "--zone=us-west4-a"], ["--workdir=bucket/c"], "needs --bucket"),
        (["resume-loop", "a", "--zone=us-west4-a", "--type=v4-8"], [], "disks go with it"),
    ],
)
def test_mistakes_are_named_before_anything_is_paid_for(cloud, words, training, message):
    done = subprocess.run(
        [SCRIPT, *words, "--", *training] if training else [SCRIPT, *words],
        env=cloud.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 64 and message in done.stderr, done.stderr
    assert not cloud.calls()


def dry_lines(cloud, command):
    done = cloud.run(command, "--dry-run", "--spot", "--project=project-1", "--internal-ips")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


COMMANDS = ("create", "wait", "install", "run", "follow", "stop", "status", "delete", "resume-loop")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_dry_run_prints_shell_commands_and_runs_none(cloud, command):
    lines = dry_lines(cloud, command)
    assert lines and not cloud.calls() and not cloud.exists()
    for line in lines:
        told = f'printf "%s\\0" {line}'
        words = subprocess.run(["bash", "-c", told], capture_output=True, text=True).stdout
        gcloud, compute, tpus, group, verb, *_ = words.split("\0")
        assert (gcloud, compute, tpus) == ("gcloud", "compute", "tpus")
        assert f"{group} {verb}" in FLAGS and "--project=project-1" in words


def test_the_steps_of_the_dry_loop_are_those_of_the_loop(cloud):
    def steps(calls):
        return list(dict.fromkeys(" ".join(call[2:4]) for call in calls))

    dry = [line.split()[1:] for line in dry_lines(cloud, "resume-loop")]
    cloud.run("resume-loop")
    assert steps(dry) == steps(cloud.calls())


def test_the_commands_of_the_guide_are_understood(cloud):
    text = (ROOT / "docs" / "tpu.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^launch/tpu_pod\.sh .*$", text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        words = command.replace("PROJECT", "project-1").replace("BUCKET", "bucket-1").split()
        words.insert(3, "--dry-run")
        done = subprocess.run(
            words, cwd=ROOT, env=cloud.environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0 and done.stdout.startswith("gcloud "), done.stderr


def test_the_codes_that_are_not_restarted_are_those_of_the_package():
    (codes,) = re.findall(r'^readonly FINAL="([\d ]+)"', SCRIPT.read_text(), re.MULTILINE)
    assert sorted(map(int, codes.split())) == sorted(errors.FINAL)


@pytest.mark.slow
def test_a_real_training_that_is_preempted_ends_as_one_that_was_not(cloud):
    """Of two workers of four devices, which JAX finds as it finds those of Slurm."""
    config = write_config(cloud.path, "c.train.steps = 20")
    words = [f"--config={config}", "--mode=train"]
    words += [f"--config.data.prepared_dir={cloud.path / 'data'}"]
    cloud.training(f'exec {sys.executable} "$@"')
    flags = {
        **{"SLURM_JOB_ID": 1, "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_STEP_NUM_NODES": 2},
        **{"SLURM_NTASKS": 2, "SLURM_PROCID": "WORKER", "SLURM_LOCALID": 0},
        **{"JAX_PLATFORMS": "cpu", "JAX_COORDINATOR_PORT": free_port(), "PJRT_NPROC": 16},
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": 1,
    }
    cloud.environment["FAKE_ENVIRONMENT"] = " ".join(f"{k}:{v}" for k, v in flags.items())
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    alone = Job(
        [*words, f"--workdir={cloud.path / 'alone'}"], Layout(2, 4), environment=environment
    )
    assert alone.wait() == 0
    cloud.plan(preempt_when="bucket/run/checkpoints/2", preemptions=1)
    done = cloud.run("resume-loop", "--spot", training=[*words, "--workdir=bucket/run"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(cloud.calls("queued-resources create")) == 2 and len(cloud.trained()) == 2
    assert losses(cloud.bucket / "run") == losses(cloud.path / "alone")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcloud"), reason="the Google Cloud SDK is not installed")
def test_the_real_gcloud_knows_every_flag(cloud, tmp_path):
    """It parses a command before it looks for an account, and here it has none."""
    lines = dict.fromkeys(line for c in ("resume-loop", "stop") for line in dry_lines(cloud, c))
    parsed = {}
    for line in lines:
        kind = re.sub(r"--command=\S+(?<=\\) ?|\S*/tmp\S*", "", line)
        parsed.setdefault(" ".join(kind.split()[:6]), line)
    for line in parsed.values():
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "CLOUDSDK_CONFIG": str(tmp_path / "nobody"),
            "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",  # nor the account of a cloud machine
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        }
        done = subprocess.run(
            ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode and "active account" in done.stderr, (line, done.stderr)


SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci" / "run"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_the_scripts_are_strict(script):
    text = script.read_text()
    assert "\nset -euo pipefail\n" in text and not re.search(r"\beval\b|set -x", text)
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    beside = Path(sys.executable).with_name("shellcheck")
    shellcheck = str(beside) if beside.exists() else shutil.which("shellcheck")
    if shellcheck:
        done = subprocess.run([shellcheck, "-S", "warning", script], capture_output=True, text=True)
        print(f"shellcheck: {script.name}: {len(done.stdout.splitlines())} lines of complaint")
        assert done.returncode == 0, done.stdout
