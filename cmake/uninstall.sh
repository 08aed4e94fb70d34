#!/usr/bin/env bash
# Removes what `cmake --install` put under PREFIX, and the folders that are empty then: the list is installed with the program.
set -euo pipefail
prefix=${PREFIX:?set PREFIX to the folder given to make install}
list=share/exactmamba/installed-files.txt
[[ -f $prefix/$list ]] || { echo "uninstall: no exactmamba under $prefix ($list is missing); give the PREFIX of make install" >&2; exit 1; }
cd "$prefix"
mapfile -t files < "$list"
rm -f -- "${files[@]}" "$list"
dirname -- "${files[@]}" | sort -u | while IFS= read -r folder; do
  [[ ! -d $folder ]] || rmdir -p --ignore-fail-on-non-empty -- "$folder"
done
echo "removed exactmamba from $prefix"
