#!/usr/bin/env bash
# The floors of the house: no file of a room includes a header of a room above it.   floors.sh SOURCE_FOLDER
set -euo pipefail
root=${1:?source folder}
floors=(core data models decomp eval train cli)  # from the ground up

violations() {
  local folder=$1 below above
  for ((below = 0; below < ${#floors[@]}; below++)); do
    [[ -d $folder/${floors[below]} ]] || continue
    for ((above = below + 1; above < ${#floors[@]}; above++)); do
      grep -rnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*\"${floors[above]}/" "$folder/${floors[below]}" || true
    done
  done
}

# The check must see a violation where there is one.
probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
mkdir -p "$probe/core" && echo '#include "train/trainer.h"' > "$probe/core/bad.h"
[[ -n $(violations "$probe") ]] || { echo "floors.sh does not see a violation"; exit 1; }

found=$(violations "$root")
[[ -z $found ]] || { printf 'a room includes a header of a room above it:\n%s\n' "$found"; exit 1; }
echo "floors respected: ${floors[*]}"
