#!/usr/bin/env bash
# Sources are as .clang-format says. Versions of clang-format differ, so only 14 (Debian 12's) counts.   format.sh SOURCE_FOLDER
set -euo pipefail
cd "${1:?source folder}"
formatter=$(command -v clang-format-14 || command -v clang-format || true)
[[ -n $formatter && $("$formatter" --version) == *" 14."* ]] || { echo "skipped: there is no clang-format 14"; exit 77; }
git ls-files '*.cpp' '*.h' '*.cu' '*.cuh' | xargs "$formatter" --dry-run -Werror
