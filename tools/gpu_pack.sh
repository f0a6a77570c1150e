#!/usr/bin/env bash
# Collects what a GPU machine without a network needs beside the repository, into one git-ignored folder:
#   tools/gpu_pack.sh [FOLDER, default build/gpu-pack] [MIB, default 60]
# MIB limits the repository's files and the folder together. In order of importance: the packages genbench needs and a
# machine with torch may lack; Fashion-MNIST; then peers for the `peers` step. What does not fit is left out and named.
# Needs a network, pip and Python 3; Fashion-MNIST comes from $GENBENCH_DATA, Debian's package, or torchvision's mirror.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
folder=${1:-build/gpu-pack}
limit=$((${2:-60} * 1024 * 1024))
rm -rf "$folder"
mkdir -p "$folder/wheels" "$folder/fashion-mnist"
spare=$(mktemp -d)
trap 'rm -rf "$spare"' EXIT

repository=$(git ls-files -z | xargs -0 cat | wc -c)
taken() { find "$folder" -type f -print0 | xargs -0 -r cat | wc -c; }
# add WHERE FILE...: moves files into the folder when all of them fit; else names them
add() {
    local where=$1 size
    shift
    size=$(cat "$@" | wc -c)
    if [ $((repository + $(taken) + size)) -le "$limit" ]; then
        mv "$@" "$folder/$where/"
    else
        echo "left out ($size bytes, no room): ${*##*/}"
    fi
}
# wheels NAME...: those of Python 3.12 on x86-64 Linux, built from source where nothing else is published
wheels() {
    rm -rf "$spare/now"
    mkdir "$spare/now"
    "$python" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 --constraint constraints.txt -d "$spare/now" "$@" 2>"$spare/log" ||
        "$python" -m pip wheel -q --disable-pip-version-check --no-deps --constraint constraints.txt -w "$spare/now" "$@" \
            2>"$spare/log" || { tail -n 3 "$spare/log" && exit 1; }
    add wheels "$spare/now"/*.whl
}

wheels torch-fidelity nvidia-ml-py pydantic pydantic-core annotated-types typing-inspection typing-extensions platformdirs
"$python" tools/gpu/fashion_files.py "$spare/fashion" && add fashion-mnist "$spare/fashion"/*.xz
wheels nflows umnn
wheels normflows
wheels diffusers importlib-metadata==8.7.0 zipp
echo "$folder: $(($(taken) / 1024)) KiB beside $((repository / 1024)) KiB of repository, limit $((limit / 1024)) KiB"
