#!/usr/bin/env bash
# Our training step against transformers' in one run: the two alternate, each figure is the best of its rounds.
#   bench/train_step.sh [python with torch, transformers, mambapy] [threads] [rounds]      after `make bench`
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${1:-python3} threads=${2:-2} rounds=${3:-2}
for ((round = 0; round < rounds; ++round)); do
  "$here/../build/bench/bin/train_step_bench" "$threads" 3
  "$python" "$here/transformers_train_step.py" "$threads" 2 2> /dev/null
done | tee /dev/stderr | awk '
  { reference = $1 == "transformers"; model = substr(reference ? $2 : $1, 1, 6) }
  match($0, /[0-9.]+ tok\/s a step/) {
    speed = substr($0, RSTART, RLENGTH) + 0
    if (speed > best[reference, model]) best[reference, model] = speed
  }
  END {
    for (i = 1; i <= 2; ++i) {
      model = "mamba" i
      printf "%s: %.1f tok/s against %.1f: %.1f times\n", model, best[0, model], best[1, model], best[0, model] / best[1, model]
    }
  }'
