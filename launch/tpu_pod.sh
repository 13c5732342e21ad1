#!/usr/bin/env bash
# A training on a Cloud TPU slice, v2 to v6e, from nothing to its end, through preemptions.
#
#   launch/tpu_pod.sh COMMAND NAME --zone=ZONE [OPTION...] [-- ARGUMENT of segdiff_jax.main...]
#
#   create       asks for a slice: the queued resource NAME with the node NAME; it is charged for
#                from the moment it is there until `delete`
#   wait         until the slice is there
#   install      copies the current commit to every worker, and installs it with JAX for TPU
#   run          starts the training once on every worker, detached, and returns
#   follow       shows the log of one worker until the training ends; exits with its code
#   stop         ends the training, which saves its state
#   status       the slice, and a line for each worker
#   delete       deletes the slice
#   resume-loop  all of it: create, wait, install, run; after a preemption, or a failure that a
#                restart may fix, again from the last checkpoint; then delete
#
#   --zone=ZONE --project=PROJECT        the project may come from `gcloud config`
#   --type=v5litepod-16                  v2-*, v3-*, v4-*, v5litepod-*, v5p-* or v6e-*
#   --runtime=VERSION                    of the slice's software; chosen by type if not given
#   --spot                               cheaper, and may be taken away at any time
#   --bucket=BUCKET                      mounted as bucket/ where the training runs
#   --network= --subnetwork= --service-account= --internal-ips
#   --attempt=N                          of run: a new number starts again, the same one does nothing; 1
#   --worker=N                           of follow; 0
#   --retries=20                         of resume-loop: restarts, for whatever reason
#   --poll=30 --wait-minutes=1440        seconds between looks; how long to wait for a slice
#   --delete-when-done | --keep          of resume-loop: what becomes of the slice at the end, be it
#                                        good or bad; deleted if not given
#   --dry-run                            prints the gcloud commands and runs none
#
# Exit codes: those of segdiff_jax.main; 64 also for this command line; 69 Google Cloud did not do
# what was asked; 130 or 143 interrupted: what runs continues, and is reported.
set -euo pipefail
export LC_ALL=C # or [a-z] may match capitals

readonly USAGE=64 UNAVAILABLE=69
# Codes after which a restart would end the same, or that a person asked for: errors.FINAL.
readonly FINAL=" 64 65 66 70 74 130 "
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root

name='' zone='' project='' type='' runtime='' bucket='' network='' subnetwork='' account=''
spot='' internal='' attempt=1 worker=0 retries=20 poll=30 wait_minutes=1440 keep='' dry=''
words=() created='' remote=segdiff scratch='' commit='' verdict='' warned='' installed=''

say() { printf 'tpu_pod%s: %s\n' "${dry:+ (dry run)}" "$*" >&2; }

refuse() {
  say "$*"
  exit "$USAGE"
}

give_up() {
  say "$*"
  exit "$UNAVAILABLE"
}

# --- the command line ---------------------------------------------------------------------------

match() { # OPTION VALUE PATTERN WHAT
  [[ $2 =~ ^($3)$ ]] || refuse "$1=$(printf %q "$2"): must be $4"
}

parse() {
  local short='[a-z]([-a-z0-9]{0,61}[a-z0-9])?' value
  (($# >= 2)) || refuse "COMMAND and NAME are needed; see the head of this file, or --help"
  name=$2
  match NAME "$name" "$short" "lower-case letters, digits and dashes, a letter first, 63 at most"
  shift 2
  while (($#)); do
    value=${1#*=}
    case $1 in
    --zone=*) match --zone "$value" '[a-z]+-[a-z]+[0-9]+-[a-z]' "like us-west4-a" && zone=$value ;;
    --project=*) match --project "$value" '([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]' "a project's id" && project=$value ;;
    --type=*) match --type "$value" '(v2|v3|v4|v5litepod|v5p|v6e)-[1-9][0-9]{0,4}' "like v5litepod-16; later TPUs: gke_jobset.yaml" && type=$value ;;
    --runtime=*) match --runtime "$value" '[a-z0-9][-a-z0-9.]{0,99}' "the name of a version" && runtime=$value ;;
    --bucket=*) match --bucket "$value" '[a-z0-9][-_.a-z0-9]{1,61}[a-z0-9]' "a bucket's name, without gs://" && bucket=$value ;;
    --network=*) match --network "$value" "$short" "a network's name" && network=$value ;;
    --subnetwork=*) match --subnetwork "$value" "$short" "a subnetwork's name" && subnetwork=$value ;;
    --service-account=*) match --service-account "$value" '[a-z0-9][-a-z0-9.]*@[a-z0-9][-a-z0-9.]*' "an address" && account=$value ;;
    --attempt=*) match --attempt "$value" '[1-9][0-9]{0,5}' "a number from 1" && attempt=$value ;;
    --worker=*) match --worker "$value" '0|[1-9][0-9]{0,4}' "a number from 0" && worker=$value ;;
    --retries=*) match --retries "$value" '0|[1-9][0-9]{0,3}' "a number from 0 to 9999" && retries=$value ;;
    --poll=*) match --poll "$value" '[0-9]{1,4}(\.[0-9])?' "seconds" && poll=$value ;;
    --wait-minutes=*) match --wait-minutes "$value" '[1-9][0-9]{0,5}' "a number from 1" && wait_minutes=$value ;;
    --spot) spot=yes ;;
    --internal-ips) internal=yes ;;
    --keep) keep=yes ;;
    --delete-when-done) keep='' ;;
    --dry-run) dry=yes ;;
    --)
      shift
      words=("$@")
      break
      ;;
    *) refuse "$(printf %q "$1"): no such option; see the head of this file, or --help" ;;
    esac
    shift
  done
  [[ -n $zone ]] || refuse "--zone is missing: like us-west4-a"
  if [[ $command == create || $command == resume-loop ]]; then
    [[ -n $type ]] || refuse "--type is missing: like v5litepod-16"
  fi
  check_words
}

check_words() { # finds mistakes before a slice is paid for
  local word workdir=''
  for word in ${words[@]+"${words[@]}"}; do
    case $word in
    --coordinator* | --process*) refuse "$(printf %q "$word"): is set here, on each worker" ;;
    --workdir=*) workdir=${word#*=} ;;
    esac
  done
  if [[ $workdir == gs://* ]]; then
    refuse "--workdir=$(printf %q "$workdir"): use --bucket=BUCKET before the dashes, and --workdir=bucket/..."
  elif [[ $workdir == bucket/* && -z $bucket ]]; then
    refuse "--workdir=$(printf %q "$workdir"): needs --bucket=BUCKET before the dashes"
  elif [[ $command == resume-loop && $workdir != bucket/* ]]; then
    refuse "resume-loop needs --bucket=BUCKET and --workdir=bucket/...: a slice's disks go with it"
  fi
}

# --- gcloud -------------------------------------------------------------------------------------

show() { printf '%s' "gcloud" >&3 && printf ' %q' "$@" >&3 && echo >&3; }

call() { # runs gcloud compute tpus ..., or prints it
  local where=(--zone="$zone" ${project:+"--project=$project"})
  if [[ -n $dry ]]; then
    show compute tpus "$@" "${where[@]}"
  else
    gcloud compute tpus "$@" "${where[@]}"
  fi
}

describe() { # KIND FORMAT: a fact of the slice; ABSENT if there is none
  local try answer errors=$scratch/errors
  if [[ -n $dry ]]; then
    call "$1" describe "$name" --format="value($2)"
    return
  fi
  for try in 1 2 3 4 5; do
    if answer=$(call "$1" describe "$name" --format="value($2)" 2>"$errors"); then
      printf '%s\n' "$answer"
      return
    elif grep -q 'NOT_FOUND' "$errors"; then
      echo ABSENT
      return
    fi
    say "cannot see $name (try $try of 5): $(tail -n 1 "$errors")"
    sleep "$poll"
  done
  exit "$UNAVAILABLE"
}

condition() { # ready | coming | gone | absent
  local request node=''
  request=$(describe queued-resources state.state) || exit
  case ${dry:+dry}$request in
  dry*) if [[ -n $created ]]; then node=READY; else node=ABSENT; fi ;;
  ABSENT) node=ABSENT ;;
  FAILED | SUSPENDING | SUSPENDED | DELETING) node=GONE ;;
  ACTIVE) node=$(describe tpu-vm state) || exit ;;
  *) node=CREATING ;;
  esac
  if [[ -n $dry && -n $created ]]; then describe tpu-vm state; fi
  case $node in
  READY) echo ready ;;
  CREATING | STARTING | RESTARTING | REPAIRING) echo coming ;;
  ABSENT) if [[ $request == ABSENT || -n $dry ]]; then echo absent; else echo gone; fi ;;
  *) echo gone ;; # PREEMPTED, TERMINATED, STOPPED, HIDING, ...: a spot slice never comes back
  esac
}

on_workers() { # WORKERS COMMAND WORD...: worker.sh on them; the words reach it as they are
  local command
  command=$(printf '%q ' bash "$remote/worker.sh" "${@:2}")
  call tpu-vm ssh "$name" --worker="$1" --command="${command% }" ${internal:+--internal-ip}
}

# --- the commands -------------------------------------------------------------------------------

do_create() {
  local options=()
  if [[ -z $runtime ]]; then
    case $type in
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    *) runtime=tpu-ubuntu2204-base ;;
    esac
  fi
  options=(--node-id="$name" --accelerator-type="$type" --runtime-version="$runtime")
  options+=(${spot:+--spot} ${internal:+--internal-ips} ${network:+"--network=$network"})
  options+=(${subnetwork:+"--subnetwork=$subnetwork"} ${account:+"--service-account=$account"})
  if [[ -n $bucket ]]; then options+=(--scopes=https://www.googleapis.com/auth/cloud-platform); fi
  created=yes # or being created: from here on it may cost money
  if ! call queued-resources create "$name" "${options[@]}"; then
    # it may exist nevertheless: a reply can get lost
    if [[ $(condition) == absent ]]; then created=''; fi
    give_up "$name could not be created"
  fi
}

do_wait() {
  local now last='' deadline=$((SECONDS + 60 * wait_minutes))
  while true; do
    now=$(condition) || exit
    if [[ $now != "$last" ]]; then say "$name is $now"; fi
    last=$now
    case $now in
    ready) return ;;
    gone) give_up "$name is not to be had: it failed, or was taken away; delete and create it" ;;
    absent)
      created=''
      give_up "there is no $name: create it first"
      ;;
    esac
    ((SECONDS < deadline)) || give_up "$name is still not there after $wait_minutes minutes"
    sleep "$poll"
  done
}

pack() { # once: what is committed later does not get into a run that goes on
  commit=$(git -C "$root" rev-parse HEAD) || refuse "$root must be a git checkout: its commit is sent"
  if [[ -n $(git -C "$root" status --porcelain --untracked-files=no) ]]; then
    say "WARNING: changes that are not committed are not sent"
  fi
  git -C "$root" archive --format=tar.gz --output="$scratch/code.tar.gz" HEAD
  cp -- "$root/launch/worker.sh" "$scratch/worker.sh"
}

do_install() { # each step by itself: where the loop looks at the result, `set -e` is off
  local ip=(${internal:+--internal-ip})
  call tpu-vm ssh "$name" --worker=all --command="mkdir -p $remote" ${ip[@]+"${ip[@]}"} &&
    call tpu-vm scp "$scratch/code.tar.gz" "$scratch/worker.sh" "$name:$remote/" --worker=all \
      ${ip[@]+"${ip[@]}"} &&
    on_workers all install "$commit" ${bucket:+"$bucket"}
}

do_run() {
  on_workers all start "$attempt" --coordinator=auto ${words[@]+"${words[@]}"}
}

do_follow() { on_workers "$worker" follow; }

do_stop() { on_workers all stop; }

do_status() {
  local now
  now=$(condition) || exit
  say "$name is $now"
  if [[ $now == ready || -n $dry ]]; then on_workers all state; fi
}

do_delete() {
  local try
  for try in 1 2 3; do
    if call queued-resources delete "$name" --force --quiet; then
      created=''
      say "$name is deleted"
      return
    fi
    if [[ $(condition) == absent ]]; then
      created=''
      return
    fi
    say "deleting $name failed, try $try of 3"
    sleep "$poll"
  done
  give_up "$name could not be deleted"
}

# --- the loop -----------------------------------------------------------------------------------

ask_workers() { # prints a line for each worker, or fails when not all of them respond
  local workers lines
  workers=$(describe tpu-vm 'networkEndpoints.len()') || exit
  if [[ -n $dry ]]; then
    on_workers all state
    return
  fi
  lines=$(on_workers all state 2>"$scratch/errors" | grep '^worker ' | sort -u -k 2,2) || true
  [[ -n $lines && $(wc -l <<<"$lines") -eq $workers ]] && printf '%s\n' "$lines"
}

watch() { # sets verdict: finished | taken | failed CODE | final CODE
  local lines last='' unseen=0
  while true; do
    if lines=$(ask_workers); then
      unseen=0
      if [[ $lines != "$last" ]]; then printf '%s\n' "$lines"; fi
      last=$lines
      judge "$lines"
      if [[ -n $dry ]]; then verdict=finished; fi
      if [[ -n $verdict ]]; then return; fi
    else
      verdict=taken
      case $(condition) in gone | absent) return ;; esac
      unseen=$((unseen + 1))
      say "not all workers answer, look $unseen of 10: $(tail -n 1 "$scratch/errors")"
      if ((unseen == 10)); then return; fi
    fi
    sleep "$poll"
  done
}

judge() { # LINES: sets verdict, or leaves it empty while nothing is decided
  local what code first='' running=''
  verdict=''
  while read -r _ _ _ what code _; do
    case $what:$code in
    running:*) running=yes ;;
    exited:0) ;;
    *)
      # one worker's own failure hides behind the 134 of those that lost it
      if [[ $FINAL == *" $code "* ]]; then
        verdict="final $code"
        return
      fi
      first=${first:-$code}
      ;;
    esac
  done <<<"$1"
  if [[ -n $first ]]; then
    # the others end too, and may log why: one more look, then the next attempt ends them
    if [[ -n $running && -z $warned ]]; then warned=yes; else verdict="failed $first"; fi
  elif [[ -z $running ]]; then
    verdict=finished
  fi
}

join_in() { # a launcher that was interrupted, started again: its training may be running
  local lines seen what latest=0 running=''
  lines=$(ask_workers) || return 0
  while read -r _ _ seen what _; do
    if [[ $what == running ]]; then running=yes; fi
    if ((seen > latest)); then latest=$seen; fi
  done <<<"$lines"
  if [[ -n $running ]]; then attempt=$latest installed=yes; else attempt=$((latest + 1)); fi
}

start_on_workers() { # sets verdict where it fails
  local code=0
  (do_wait) && { [[ -n $installed ]] || (do_install); } && (do_run) || code=$?
  case $code in
  0)
    installed=yes
    return
    ;;
  "$USAGE") # another training is on that slice: it is not ours to delete
    keep=yes
    verdict="final $USAGE"
    ;;
  *)
    verdict="failed $UNAVAILABLE"
    case $(condition) in gone | absent) verdict=taken ;; esac
    ;;
  esac
  return 1
}

do_loop() {
  local restarts=0 now code
  pack
  now=$(condition) || exit
  if [[ $now == ready && -z $dry ]]; then join_in; fi
  while true; do
    if [[ $now == gone ]]; then do_delete && now=absent; fi
    if [[ $now == absent ]]; then try_create; fi
    now=ready created=yes warned='' code=0
    if start_on_workers; then watch; fi
    say "attempt $attempt: $verdict"
    case $verdict in
    finished) break ;;
    final*)
      code=${verdict#* }
      say "exit code $code: a restart would end the same, or was not wanted"
      break
      ;;
    failed*) code=${verdict#* } ;;
    taken) code=$UNAVAILABLE ;;
    esac
    if ((restarts == retries)); then
      say "$retries restarts were not enough"
      break
    fi
    restarts=$((restarts + 1)) attempt=$((attempt + 1))
    say "restart $restarts of $retries"
    if [[ $verdict == taken ]]; then now=gone installed=''; else sleep "$poll"; fi
  done
  if [[ -z $keep ]]; then do_delete; fi
  exit "$code"
}

try_create() { # refusals pass: there may be no room just now
  local try
  for try in 1 2 3 4 5; do
    created=yes
    if (do_create) || [[ $(condition) != absent ]]; then return; fi
    created=''
    say "try $try of 5"
    sleep "$poll"
  done
  exit "$UNAVAILABLE"
}

# --- the end ------------------------------------------------------------------------------------

leave() { # reports a slice that still exists, and is charged for
  local code=$?
  trap - EXIT
  rm -rf -- "$scratch"
  if [[ -n $created && -z $dry ]]; then
    {
      echo "tpu_pod: ######################################################################"
      echo "tpu_pod: ## $name in $zone EXISTS AND IS CHARGED FOR, and what runs on it goes on."
      echo "tpu_pod: ## See it:    launch/tpu_pod.sh status $name --zone=$zone${project:+ --project=$project}"
      echo "tpu_pod: ## Delete it: launch/tpu_pod.sh delete $name --zone=$zone${project:+ --project=$project}"
      echo "tpu_pod: ######################################################################"
    } >&2
  fi
  exit "$code"
}

main() {
  case ${1:-} in
  '' | -h | --help)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    exit
    ;;
  create | wait | install | run | follow | stop | status | delete | resume-loop) command=$1 ;;
  *) refuse "$(printf %q "$1"): no such command; see the head of this file, or --help" ;;
  esac
  parse "$@"
  if [[ -z $dry ]] && ! command -v gcloud >/dev/null; then
    give_up "gcloud is not installed: see docs/tpu.md"
  fi
  scratch=$(mktemp -d)
  trap leave EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  case $command in
  resume-loop) do_loop ;;
  install)
    created=yes
    pack
    do_install
    ;;
  run | follow | stop | wait) created=yes && "do_$command" ;;
  *) "do_$command" ;;
  esac
}

command=''
exec 3>&1 # for --dry-run: also out of $(...)
main "$@"
exit
