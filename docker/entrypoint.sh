#!/bin/sh
# Gives a new data volume the example peer list, then becomes the node.
set -eu
here=$(dirname "$0")
config="${DICOM_NODE_DATA_DIR:-/data}/config"
if [ ! -e "$config/peers.yaml" ]; then
    mkdir -p "$config"
    cp "$here/peers.yaml" "$config/peers.yaml"
fi
exec dicom-node "$@"
