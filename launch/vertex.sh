#!/usr/bin/env bash
# A run on machines of Vertex AI. It continues by itself on new machines after it was stopped.
#
#     launch/vertex.sh --data gs://my-bucket --save-dir gs://my-bucket/runs/a --epochs 300
#
# Needs: gcloud, signed in, and IMAGE, an image of the Dockerfile built with GPUs and pushed to a registry that the
# project can read. Other sizes: NODES=4 GPUS=8 GPU=NVIDIA_L4 MACHINE=g2-standard-96 REGION=europe-west4 launch/vertex.sh ...

set -euo pipefail

: "${IMAGE:?wanted IMAGE=REGISTRY/NAME:TAG, an image of the Dockerfile built with --build-arg TORCH=cu126}"
if [[ " $*" != *" --save-dir gs://"* && " $*" != *" --save-dir=gs://"* ]]; then
    echo "wanted --save-dir gs://BUCKET/FOLDER: the disks of the machines are lost at the end" >&2
    exit 2
fi
if [[ ! ${NODES:-2} =~ ^[1-9][0-9]*$ ]]; then
    echo "NODES=$NODES: wanted a number of machines" >&2
    exit 2
fi
config=$(mktemp)
trap 'rm -f "$config"' EXIT

# On each machine: CLUSTER_SPEC has the addresses of all, and which one this is.
# shellcheck disable=SC2016
run='
read -r nodes rank first < <(python3 -c "
import json, os
spec = json.loads(os.environ[\"CLUSTER_SPEC\"])
pools, task = spec[\"cluster\"], spec[\"task\"]
names = [(pool, number) for pool in sorted(pools) for number in range(len(pools[pool]))]
print(len(names), names.index((task[\"type\"], int(task[\"index\"]))), pools[\"workerpool0\"][0].rpartition(\":\")[0])
")
exec torchrun --nnodes "$nodes" --node_rank "$rank" --nproc_per_node "$PROCESSES" \
    --master_addr "$first" --master_port "${PORT:-29500}" --no-python simclr-rhd "$@"
'

IMAGE=$IMAGE RUN=$run NODES=${NODES:-2} GPUS=${GPUS:-4} GPU=${GPU:-NVIDIA_L4} MACHINE=${MACHINE:-g2-standard-48} \
    python3 - "$@" >"$config" <<'PYTHON'
import json, os, sys

nodes, gpus = int(os.environ["NODES"]), int(os.environ["GPUS"])
machine = {"machineType": os.environ["MACHINE"]}
if gpus:
    machine |= {"acceleratorType": os.environ["GPU"], "acceleratorCount": gpus}
container = {
    "imageUri": os.environ["IMAGE"],
    "command": ["bash", "-c", os.environ["RUN"], "simclr-rhd"],
    "args": sys.argv[1:],
    "env": [{"name": "PROCESSES", "value": str(max(1, gpus))}],
}
pools = [
    {"machineSpec": machine, "replicaCount": count, "containerSpec": container} for count in (1, nodes - 1) if count
]
spot = {"strategy": "SPOT", "restartJobOnWorkerRestart": True}
json.dump({"workerPoolSpecs": pools, "scheduling": spot}, sys.stdout)
PYTHON

gcloud ai custom-jobs create --region "${REGION:-europe-west4}" --display-name simclr-rhd --config "$config"
