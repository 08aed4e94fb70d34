#!/usr/bin/env bash
# Sets up what is missing to build exactmamba: system packages (apt), LibTorch, Arrow and SentencePiece (into a cache outside the clone).
# Does nothing, and needs no network, when everything is there. YES=1: do not ask before sudo. NVIDIA's libraries come
# along where there is a GPU, or with CUDA=1.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${EXACTMAMBA_CACHE:-$HOME/.cache/exactmamba}
libtorch=$cache/libtorch-2.11.0
arrow=$cache/arrow-25.0.1
sentencepiece=$cache/sentencepiece-0.2.1

packages=(g++ cmake ninja-build ccache mold python3 ca-certificates
  libfmt-dev libtomlplusplus-dev nlohmann-json3-dev libcli11-dev libxxhash-dev zlib1g-dev liblzma-dev libzstd-dev libpcre2-dev libutf8proc-dev libexpat1-dev libyaml-cpp-dev
  libgtest-dev libbenchmark-dev)

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$package"
  done
}

confirm() {
  [[ ${YES:-} == 1 ]] && return 0
  [[ -t 0 ]] || return 1
  local answer
  read -r -p "$1 [y/N] " answer
  [[ $answer == [yY]* ]]
}

# What apt would download for these packages, as far as its lists know; needs no root.
download_size() {
  local uris
  uris=$(apt-get install --print-uris -qq --no-install-recommends "$@" 2>/dev/null) || {
    printf 'a download of unknown size, the package lists being out of date'
    return
  }
  awk '{ bytes += $3 } END { printf "downloads %.1f MB", bytes / 1e6 }' <<< "$uris"
}

install_packages() {
  local missing=("$@") as_root=() command
  command="apt-get install -y --no-install-recommends ${missing[*]}"
  command -v apt-get >/dev/null || fail "this script knows apt only. Install these by hand, then try again: ${missing[*]}"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || fail "not root and no sudo. Run as root: $command"
    confirm "setup: run 'sudo $command' ($(download_size "${missing[@]}"))?" || fail "stopped. Run this, then try again: sudo $command"
    as_root=(sudo)
  fi
  "${as_root[@]}" apt-get update -qq || say "apt-get update failed; trying with the package lists that are there"
  say "system packages: ${missing[*]}"
  # apt prints "Need to get … of archives" before it starts.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $command | grep -E '^(Need to get|After this operation)|^E:' >&2 ||
    fail "apt-get failed; see: $command"
}

# unpack_wheels FILE FOLDER: the wheels that FILE pins, unpacked into FOLDER.
unpack_wheels() {
  local platform=() tag wheel downloads=$2.wheels
  for tag in manylinux_2_28 manylinux_2_27 manylinux_2_25 manylinux_2_18 manylinux_2_17 manylinux_2_12 manylinux2014 manylinux1; do
    platform+=(--platform "${tag}_x86_64")
  done
  python3 -m pip --disable-pip-version-check download --no-deps --require-hashes --only-binary=:all: --python-version 3.12 \
    "${platform[@]}" -r "$1" -d "$downloads" || fail "download failed (is there network?)"
  for wheel in "$downloads"/*.whl; do python3 -m zipfile -e "$wheel" "$2"; done
  rm -rf "$downloads"
}

# fetch LIST WHAT: the wheels that LIST pins, unpacked into $work/unpacked, in the file system of the cache.
work=
fetch() {
  say "$2"
  mkdir -p "$cache" || fail "cannot write to $cache; set EXACTMAMBA_CACHE to another folder"
  if [[ -z $work ]]; then
    work=$(mktemp -d "$cache/unpacking.XXXXXX")
    trap 'rm -rf "$work"' EXIT
  fi
  rm -rf "$work/unpacked"
  unpack_wheels "$here/$1" "$work/unpacked"
}

install_libtorch() {
  fetch wheels.txt "LibTorch 2.11.0: downloads 545 MB, unpacks to about 1.2 GB in $libtorch"
  rm -rf "$libtorch"
  mv "$work/unpacked" "$libtorch"
  sha256sum < "$here/wheels.txt" > "$libtorch/.complete"
}

# Of the wheel only the two libraries that read Parquet, and their headers.
install_arrow() {
  fetch wheels-arrow.txt "Arrow 25.0.1: downloads 50 MB, unpacks to about 70 MB in $arrow"
  rm -rf "$arrow"
  mkdir -p "$arrow/pyarrow"
  mv "$work/unpacked/pyarrow/"{include,libarrow.so.2500,libparquet.so.2500} "$arrow/pyarrow"
  sha256sum < "$here/wheels-arrow.txt" > "$arrow/.complete"
}

# LibTorch finds NVIDIA's libraries beside itself.
install_cuda() {
  fetch wheels-cuda.txt "NVIDIA's libraries for LibTorch on a GPU: downloads 2.0 GB, unpacks to about 2.7 GB in $libtorch"
  cp -rl "$work/unpacked/nvidia/." "$libtorch/nvidia/"
  sha256sum < "$here/wheels-cuda.txt" > "$libtorch/.complete-cuda"
}

# The source is what the package on PyPI is built from; here only its archive is wanted.
install_sentencepiece() (
  local work
  say "SentencePiece 0.2.1: downloads 3.2 MB, unpacks to about 11 MB in $sentencepiece"
  mkdir -p "$cache" || fail "cannot write to $cache; set EXACTMAMBA_CACHE to another folder"
  work=$(mktemp -d "$cache/unpacking.XXXXXX")
  trap "rm -rf '$work'" EXIT
  python3 -m pip --disable-pip-version-check download --no-deps --require-hashes --no-binary=:all: -r "$here/sources.txt" -d "$work" ||
    fail "download failed (is there network?)"
  tar -xzf "$work"/sentencepiece-*.tar.gz --no-same-owner -C "$work"
  rm -rf "$sentencepiece"
  mv "$work"/sentencepiece-*/sentencepiece "$sentencepiece"
  sha256sum < "$here/sources.txt" > "$sentencepiece/.complete"
)

# The compiler and pip may come from elsewhere than apt; what is on PATH counts.
command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
read -r -a missing <<< "$(missing_packages)"
((${#missing[@]} == 0)) || install_packages "${missing[@]}"

[[ $(uname -m) == x86_64 ]] || fail "exactmamba is built for x86-64 machines; this one is $(uname -m)"
[[ $(cat "$libtorch/.complete" 2>/dev/null) == $(sha256sum < "$here/wheels.txt") ]] || install_libtorch
[[ $(cat "$arrow/.complete" 2>/dev/null) == $(sha256sum < "$here/wheels-arrow.txt") ]] || install_arrow
[[ $(cat "$sentencepiece/.complete" 2>/dev/null) == $(sha256sum < "$here/sources.txt") ]] || install_sentencepiece
if [[ ${CUDA:-} == 1 || -e /dev/nvidiactl ]]; then
  [[ $(cat "$libtorch/.complete-cuda" 2>/dev/null) == $(sha256sum < "$here/wheels-cuda.txt") ]] || install_cuda
fi
