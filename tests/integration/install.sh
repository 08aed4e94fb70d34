#!/usr/bin/env bash
# The installed program runs from any folder, without LD_LIBRARY_PATH and without the LibTorch that it was built with, also
# when it was packed with DESTDIR; uninstalling leaves nothing but what was there.   install.sh SOURCE BUILD
set -euo pipefail
source=${1:?source folder} build=${2:?build folder}
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT

mkdir -p "$prefix/usr/share/other"
cmake --install "$build" --prefix "$prefix/usr" > /dev/null
cd /
env -u LD_LIBRARY_PATH "$prefix/usr/bin/exactmamba" --version
[[ -s $prefix/usr/share/bash-completion/completions/exactmamba ]]
foreign=$(env -u LD_LIBRARY_PATH ldd "$prefix/usr/bin/exactmamba" | grep '=> /' | grep -vE "=> ($prefix|/usr|/lib)" || true)
[[ -z $foreign ]] || { printf 'libraries from outside of the prefix:\n%s\n' "$foreign"; exit 1; }

PREFIX=$prefix/usr "$source/cmake/uninstall.sh"
left=$(cd "$prefix/usr" && find . -mindepth 1 | sort | tr '\n' ' ')
[[ $left == "./share ./share/other " ]] || { printf 'after uninstall there is:\n%s\n' "$left"; exit 1; }

DESTDIR=$prefix/package cmake --install "$build" --prefix /opt/exactmamba > /dev/null
"$prefix/package/opt/exactmamba/bin/exactmamba" --version > /dev/null
PREFIX=$prefix/package/opt/exactmamba "$source/cmake/uninstall.sh"
