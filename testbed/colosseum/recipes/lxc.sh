#!/bin/sh
# Makes the LXC image of an SRN with lxd on your own machine: sh lxc.sh BASE.tar.gz
#
# BASE.tar.gz is a base image of Colosseum, as base-2204 from /share/nas/common. After
# prepare_a_new_lxc_container_for_upload.rst of colosseum-wiot/user-documentation: no split tarballs, a name
# of letters, digits and dashes, and permissions 755.
# shellcheck disable=SC1091,SC2154 # image.env sets image_for, image_name, extras and cpu_only
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/image.env"
base=$1
work=$image_name-work

lxc image import "$base" --alias "$work"
lxc launch "$work" "$work"
lxc file push --recursive --create-dirs "$here" "$work/root/splitfl-image/"
lxc exec "$work" --env TORCH_INDEX="${TORCH_INDEX:-}" -- \
    sh -c 'sh /root/splitfl-image/*/install.sh && rm -rf /root/splitfl-image'
lxc stop "$work"
lxc publish "$work" --alias "$image_name"
lxc image export "$image_name" "$image_name"
chmod 755 "$image_name.tar.gz"
lxc delete "$work"
lxc image delete "$work"
ls -l "$image_name.tar.gz"
