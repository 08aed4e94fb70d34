#!/usr/bin/env bash
# The installed program runs from any folder without LD_LIBRARY_PATH, and uninstalling leaves nothing.   install.sh SOURCE BUILD
set -euo pipefail
source=${1:?source folder} build=${2:?build folder}
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$build" --prefix "$prefix/usr" > /dev/null
cd /
env -u LD_LIBRARY_PATH "$prefix/usr/bin/exactmamba" --version
[[ -s $prefix/usr/share/bash-completion/completions/exactmamba ]]
PREFIX=$prefix/usr "$source/cmake/uninstall.sh"
left=$(find "$prefix/usr" -type f)
[[ -z $left ]] || { printf 'left behind by uninstall:\n%s\n' "$left"; exit 1; }
