#!/usr/bin/env bash
# The first hour on a GPU: tools/gpu_session.sh STEP...   (facts tests smoke speed train peers score fashion gate, or all)
# A call takes at most nine minutes; the same call again continues. docs/gpu.md explains the steps and their records.
# Needs python3 with torch. What else is missing is installed from the folder that tools/gpu_pack.sh filled, without a
# network, into build/gpu-site, which is put on PYTHONPATH; nothing of the machine or of the GPU's settings is changed.
#   PYTHON      the interpreter, default python3        GPU_PACK   the packed folder, default build/gpu-pack
#   OUT         where records go, default build/gpu     GPU_WORK   scratch files, default build/gpu-work
set -euo pipefail
begun=$(date +%s)
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
pack=${GPU_PACK:-build/gpu-pack}
export OUT=${OUT:-$PWD/build/gpu}
site=$PWD/build/gpu-site
export PYTHONPATH=$site:$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 GENBENCH_DATA=${GENBENCH_DATA:-$PWD/build/gpu-data}
mkdir -p "$OUT"

if [ -d "$pack/wheels" ] && [ ! -d "$site" ]; then
    "$python" -m tools.gpu.unpack "$pack" "$site" "$GENBENCH_DATA"
fi
missing=$("$python" -m tools.gpu missing)
if [ -n "$missing" ]; then
    echo "missing packages: $missing (tools/gpu_pack.sh collects them, on a machine with a network)"
    exit 2
fi
"$python" -m tools.gpu --begun "$begun" "$@" 2>&1 | tee -a "$OUT/log.txt"
