#!/usr/bin/env bash
# What tpu_pod.sh runs on every worker of a slice. gcloud repeats a command when its connection
# drops, so each of these may be run again, and does nothing the second time.
#
#   worker.sh install COMMIT [BUCKET]  unpacks code.tar.gz, makes the environment, mounts the bucket
#   worker.sh start ATTEMPT WORD...    starts segdiff_jax.main WORD... and returns; an earlier attempt
#                                      of the same words is ended before
#   worker.sh state                    one line: worker NAME ATTEMPT running|exited|lost|none CODE LAST-LINE
#   worker.sh follow                   the log until the job ends; exits with its code
#   worker.sh stop                     ends the job, which saves its state, and waits for it
#
# Everything is in the directory of this file: code/, venv/, bucket/, log, and a file for each fact.
set -euo pipefail
export LC_ALL=C
home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$home"

readonly USAGE=64 INTERRUPTED=130 KILLED=137 PATIENCE="${SEGDIFF_STOP_SECONDS:-60}"

fact() { # NAME: what a file of one line holds, or nothing
  if [[ -f $1 ]]; then cat -- "$1"; fi
}

keep() { # NAME VALUE: replaces the file atomically
  printf '%s\n' "$2" >"$1.new"
  mv -- "$1.new" "$1"
}

refuse() {
  echo "worker $HOSTNAME: $*" >&2
  exit "$USAGE"
}

running() { # the job itself holds the lock, so this is correct after a crash, too
  ! flock --shared --nonblock running.lock true
}

install() { # COMMIT [BUCKET]
  local commit=$1 bucket=${2:-}
  exec 8>start.lock
  flock 8 # a repeated command waits for the first, and finds its work done
  if [[ $(fact installed) != "$commit" ]]; then
    if running; then refuse "a training is running here: stop it before it gets other code"; fi
    rm -rf code.new
    mkdir -p code.new
    tar -xzf code.tar.gz -C code.new
    rm -rf code
    mv code.new code
    mkdir -p bucket
    ln -s ../bucket code/bucket
    make_environment
    keep installed "$commit"
  fi
  if [[ -n $bucket ]] && ! mountpoint -q bucket; then
    command -v gcsfuse >/dev/null || install_gcsfuse
    # without a cache of what is there: another worker may just have written it
    gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 \
      --metadata-cache-negative-ttl-secs=0 "$bucket" bucket
  fi
  echo "worker $HOSTNAME has $commit"
}

make_environment() { # the images of TPU VMs have Python 3.10, which is too old
  local python found=
  for python in python3.13 python3.12 python3.11; do
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
      found=$python
      break
    fi
  done
  rm -rf venv
  if [[ -n $found ]]; then
    "$found" -m venv venv
  else
    python3 -m pip install --quiet --user 'uv>=0.8,<1'
    python3 -m uv venv --quiet --seed --python 3.12 venv
  fi
  venv/bin/python -m pip install --quiet --editable './code[tpu]'
}

install_gcsfuse() { # by the commands of its documentation
  local key=/usr/share/keyrings/cloud.google.asc release
  release=$(lsb_release -c -s)
  curl --fail --silent --show-error https://packages.cloud.google.com/apt/doc/apt-key.gpg |
    sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$release main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get -qq update
  sudo apt-get -qq install --yes gcsfuse
}

start() { # ATTEMPT WORD...
  local attempt=$1 what
  shift
  what=$(printf '%q ' "$@")
  exec 8>start.lock
  flock 8
  if [[ $(fact words) != "$what" ]]; then
    if running; then refuse "another training is running here: stop it first"; fi
  elif [[ $(fact attempt) == "$attempt" ]]; then
    echo "worker $HOSTNAME: attempt $attempt was started before"
    return
  fi
  end
  rm -f exit stop pid
  keep words "$what"
  keep attempt "$attempt"
  setsid bash "$home/worker.sh" supervise "$@" 8>&- </dev/null >>log 2>&1 &
  while [[ ! -e exit ]] && ! running && kill -0 $! 2>/dev/null; do sleep 0.1; done
  echo "worker $HOSTNAME: attempt $attempt is started"
}

supervise() { # WORD...: runs the job, and records its exit code
  exec 9>running.lock
  flock 9
  # JAX's own port is outside the firewall rule that Google Cloud makes for TPUs
  export JAX_COORDINATOR_PORT="${JAX_COORDINATOR_PORT:-8476}"
  local code=0 job cut=1 result
  echo "worker $HOSTNAME, attempt $(fact attempt), $(date -u +%FT%TZ)"
  # at a preemption the machine sends SIGTERM to the job and to this supervisor, which must outlive the job
  trap 'cut=1' TERM INT HUP
  cd code
  ../venv/bin/python -m segdiff_jax.main "$@" &
  job=$!
  keep ../pid "$job"
  while ((cut)); do # a signal cuts the wait short
    cut=0 result=0
    wait "$job" || result=$?
    if ((code == 0 || result != 127)); then code=$result; fi # 127: it was waited for before
  done
  cd ..
  if [[ -e stop ]]; then code=$INTERRUPTED; fi # requested by the user: no restart
  keep exit "$code"
}

end() { # ends the running job: SIGTERM, on which it saves, then SIGKILL after PATIENCE seconds
  local terminated='' tenths=0
  while running; do
    if [[ -z $terminated && -f pid ]]; then kill -TERM "$(fact pid)" 2>/dev/null && terminated=yes || true; fi
    if ((tenths == 10 * PATIENCE)); then kill -KILL "$(fact pid)" 2>/dev/null || true; fi
    tenths=$((tenths + 1))
    sleep 0.1
  done
}

state() {
  local what=none code=- attempt
  attempt=$(fact attempt)
  if running; then
    what=running
  elif [[ -f exit ]]; then
    what=exited code=$(fact exit)
  elif [[ -f attempt ]]; then
    what=lost code=$KILLED
  fi
  printf 'worker %s %s %s %s %s\n' "$HOSTNAME" "${attempt:-0}" "$what" "$code" "$(last_line)"
}

last_line() { # progress bars write carriage returns
  if [[ -f log ]]; then tail -c 2000 log | tr '\r' '\n' | grep -v '^ *$' | tail -n 1 | cut -c 1-160; fi
}

follow() {
  local line
  touch log
  tail -n +1 -F log 2>/dev/null &
  while running; do sleep 1; done
  sleep 1
  kill $! 2>/dev/null || true
  line=$(fact exit)
  exit "${line:-$KILLED}"
}

stop() {
  touch stop
  end
  echo "worker $HOSTNAME is stopped"
}

case ${1:-} in
install | start | state | follow | stop | supervise) "$@" ;;
*)
  refuse "${1:-nothing}: must be install, start, state, follow or stop"
  ;;
esac
