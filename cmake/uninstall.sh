#!/usr/bin/env bash
# Removes what `cmake --install` put under PREFIX: the list is installed with the program.
set -euo pipefail
prefix=${PREFIX:?set PREFIX to the folder given to make install}
list=$prefix/share/exactmamba/installed-files.txt
[[ -f $list ]] || { echo "uninstall: no exactmamba under $prefix ($list is missing); give the PREFIX of make install" >&2; exit 1; }
while IFS= read -r file; do rm -f -- "$prefix/$file"; done < "$list"
rm -f -- "$list"
find "$prefix/share/exactmamba" "$prefix/share/doc/exactmamba" -depth -type d -empty -delete 2>/dev/null || true
echo "removed exactmamba from $prefix"
