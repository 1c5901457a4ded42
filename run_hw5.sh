#!/usr/bin/env bash
# Runs the experiments of the homework and ends with a table of final returns next to the exact optimum.
#
#   RUN_EXPLORATION=0 RUN_OFFLINE=0 RUN_FINETUNE=0   skip that stage (the last two read the datasets of the first)
#   SEEDS="1 2 3"       seeds of every experiment (default: 1)
#   BONUS=1             include VeryHard, the bonus environment
#   QUICK=1             a tenth of the steps; runs, datasets and pictures go to quick/
#   JOBS=4              number of programs that run at a time, one thread each (default: 2, or 1 on a single core)
#   SKIP_INSTALL=1      use .venv without installing anything
#   PYTHON=python3.12   interpreter to make .venv with (3.11 or newer)
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
if (($#)); then
  sed -n '/^#!/d; /^#/!q; s/^# \{0,1\}//p' run_hw5.sh
  [[ $1 == -h || $1 == --help ]] && exit
  exit 2
fi
source tools/setup_env.sh

check_switches RUN_EXPLORATION RUN_OFFLINE RUN_FINETUNE BONUS QUICK
read -ra seeds <<<"${SEEDS:-1}"
[[ "${seeds[*]}" =~ ^[0-9]+(\ [0-9]+)*$ ]] || fail "SEEDS is a list of whole numbers such as \"1 2 3\", not \"$SEEDS\""
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
jobs=${JOBS:-$((cores > 1 ? 2 : 1))}
[[ $jobs =~ ^[1-9][0-9]*$ ]] || fail "JOBS is the number of programs at a time, such as 2, not \"$jobs\""
base=
# Programs share the cores here, so each one stays in a single process.
flags=(--workers 1 --seeds "${seeds[@]}")
explore_flags=(--log_interval 1000) learn_flags=(--log_interval 1000)
if [[ ${QUICK:-0} == 1 ]]; then
  base=quick/
  flags+=(--steps_fraction 0.1)
  # About 20 points a curve and four pictures, of 1,000 and of 10,000 steps.
  explore_flags=(--eval_interval 50 --log_interval 50 --visualize_interval 250)
  learn_flags=(--eval_interval 500 --log_interval 500 --visualize_interval 2500)
fi
data=${base}data datasets=${base}datasets pictures=${base}exploration_visualization
flags+=(--data_dir "$data" --dataset_dir "$datasets" --visualization_dir "$pictures")

set_up_environment requirements.txt

started=$(date -u +%Y-%m-%dT%H:%M:%SZ)
logs=$data/logs/$(date +%Y-%m-%d_%H-%M-%S)
mkdir -p "$logs"
# A program that is stopped appends the command that resumes it.
export CS285_RESUME_FILE=$logs/resume.txt
failed=()

# Programs run in numbered slots, at most $jobs at a time. pids[slot] is empty while a slot is free.
pids=() names=() begun=()

# Lets running programs write their checkpoints, and prints the commands that resume them.
stop_programs() {
  local slot
  for ((slot = 0; slot < jobs; slot++)); do
    [[ -n ${pids[slot]:-} ]] || continue
    kill "${pids[slot]}" 2>/dev/null || true
  done
  wait
  if [[ -s $CS285_RESUME_FILE ]]; then
    printf 'To resume what was running, in %s:\n' "$PWD" >&2
    sed 's/^/  /' "$CS285_RESUME_FILE" >&2
  fi
}
# Background programs ignore Ctrl-C, so it is passed on to them here.
trap stop_programs EXIT
trap 'exit 129' HUP
trap 'echo "Stopping after this step." >&2; exit 130' INT
trap 'exit 143' TERM

# Waits for a second; once a minute, shows the last line of every running program.
pause() {
  local slot
  sleep 1
  ((SECONDS % 60 == 0)) || return 0
  for ((slot = 0; slot < jobs; slot++)); do
    [[ -z ${pids[slot]:-} ]] || printf '  %-22s %s\n' "${names[slot]}" \
      "$(tail -c 400 "$logs/${names[slot]}.log" | tr '\r' '\n' | sed '/^ *$/d' | tail -n 1 | cut -c 1-120)"
  done
}

# collect SLOT: reports the result of a program that has ended, and frees its slot.
collect() {
  local slot=$1 status=0
  local name=${names[slot]} log=$logs/${names[slot]}.log
  wait "${pids[slot]}" || status=$?
  pids[slot]=
  if ((status == 0)); then
    echo "done     $name ($((SECONDS - begun[slot])) s)"
    return
  fi
  failed+=("$name (exit status $status, see $log)")
  echo "FAILED   $name (exit status $status); the end of $log:"
  tr '\r' '\n' <"$log" | tail -n 12 | sed 's/^/    /'
}

# Waits for a free slot and stores its number in `slot`.
await_free_slot() {
  while true; do
    for ((slot = 0; slot < jobs; slot++)); do
      [[ -z ${pids[slot]:-} ]] && return
      if ! kill -0 "${pids[slot]}" 2>/dev/null; then
        collect "$slot"
        return
      fi
    done
    pause
  done
}

await_all() {
  local slot
  for ((slot = 0; slot < jobs; slot++)); do
    while [[ -n ${pids[slot]:-} ]] && kill -0 "${pids[slot]}" 2>/dev/null; do
      pause
    done
    [[ -z ${pids[slot]:-} ]] || collect "$slot"
  done
}

# run SCRIPT NAME CONFIG...: trains the configs, given without folder and suffix, as one program.
run() {
  local script=$1 name=$1_$2 folder=$1 slot config configs=() intervals=("${learn_flags[@]}")
  shift 2
  if [[ $script == explore ]]; then
    folder=exploration
    intervals=("${explore_flags[@]}")
  fi
  for config in "$@"; do configs+=("experiments/$folder/pointmass_$config.yaml"); done
  await_free_slot
  OMP_NUM_THREADS=1 "$VENV_PYTHON" "cs285/scripts/run_hw5_$script.py" -cfg "${configs[@]}" "${intervals[@]}" "${flags[@]}" \
    >"$logs/$name.log" 2>&1 </dev/null &
  pids[slot]=$! names[slot]=$name begun[slot]=$SECONDS
  echo "started  $name"
}

echo "Up to $jobs programs at a time; what they print goes to $logs/"
if [[ ${RUN_EXPLORATION:-1} != 0 ]]; then
  echo "== Exploration"
  run explore random {easy,medium,hard}_random
  run explore rnd {easy,medium,hard}_rnd
  for size in 20000 10000 5000 1000; do run explore "rnd_$size" {medium,hard}_rnd_"$size"; done
  [[ ${BONUS:-0} != 1 ]] || run explore veryhard veryhard_rnd
  await_all
fi
if [[ ${RUN_OFFLINE:-1} != 0 ]]; then
  echo "== Offline learning"
  run offline cql {easy,medium,hard}_cql medium_cql_alpha{0,0.1,0.5,1,2,5,10} {medium,hard}_cql_rnd{1000,5000,10000,20000}
  for algorithm in iql awac dqn; do run offline "$algorithm" {easy,medium,hard}_"$algorithm"; done
  for algorithm in cql iql awac dqn; do
    [[ ${BONUS:-0} != 1 ]] || run offline "veryhard_$algorithm" "veryhard_$algorithm"
  done
  await_all
fi
if [[ ${RUN_FINETUNE:-1} != 0 ]]; then
  echo "== Fine-tuning"
  for algorithm in cql iql awac dqn; do run finetune "$algorithm" "hard_${algorithm}_finetune"; done
  for algorithm in cql iql; do
    [[ ${BONUS:-0} != 1 ]] || run finetune "veryhard_$algorithm" "veryhard_${algorithm}_finetune"
  done
  await_all
fi

echo
"$VENV_PYTHON" cs285/scripts/show_results.py --data_dir "$data" --since "$started"
printf '\nIn %s:\n' "$PWD"
printf '  %-32s %s\n' "$data/" "one folder per run: TensorBoard logs, configuration, summary, final weights (agent.pt), pictures" \
  "$datasets/" "what exploration collected" \
  "$pictures/" "pictures of the datasets"
echo "Curves: .venv/bin/tensorboard --logdir $data"
echo "Report: $VENV_PYTHON cs285/scripts/make_report.py --data_dir $data --out ${base}report"
if ((${#failed[@]})); then
  printf 'FAILED: %s\n' "${failed[@]}" >&2
  exit 1
fi
