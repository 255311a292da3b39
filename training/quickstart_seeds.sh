#!/usr/bin/env bash
# Runs the quickstart with three seeds and keeps their reports in docs/results/.
#   training/quickstart_seeds.sh
set -euo pipefail
cd "$(dirname "$0")/.."
runs=()
for seed in 0 1 2; do
  run="runs/quickstart-seed$seed"
  .venv/bin/masksearch quickstart --seed "$seed" --out "$run"
  for kind in json html; do
    cp "$run/report.$kind" "docs/results/quickstart-seed$seed.$kind"
  done
  runs+=("$run")
done
.venv/bin/masksearch summary "${runs[@]}" > docs/results/quickstart.md
