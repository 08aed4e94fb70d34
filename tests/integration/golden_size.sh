#!/usr/bin/env bash
# Golden files stay small enough for a repository.   golden_size.sh SOURCE_FOLDER
set -euo pipefail
most=20000000
size=$(du -sb "${1:?source folder}/tests/golden" | cut -f1)
((size <= most)) || { echo "tests/golden has $size bytes, more than $most: keep large JSON as .xz (tests/support/golden_json.h)"; exit 1; }
echo "tests/golden: $size of $most bytes"
