#!/usr/bin/env bash
# Checks all clients: types, the shared conformance cases, hostile servers, the programs of the
# READMEs. Needs Python 3.9, Node 20 and the package registries; ANABRANCH_BIN names the program
# to test against. What it makes is in a scratch directory: $CLIENTS_SCRATCH, or target/clients.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
scratch=${CLIENTS_SCRATCH:-$root/target/clients}

if [[ -z ${ANABRANCH_BIN:-} ]]; then
    echo "say in ANABRANCH_BIN which program to test against" >&2
    exit 2
fi
if [[ $ANABRANCH_BIN == */* ]]; then
    ANABRANCH_BIN=$(cd "$(dirname "$ANABRANCH_BIN")" && pwd)/$(basename "$ANABRANCH_BIN")
fi
export ANABRANCH_BIN
export PYTHONDONTWRITEBYTECODE=1
mkdir -p "$scratch"

python() {
    local environment=$scratch/environment
    if [[ ! -x $environment/bin/mypy ]]; then
        rm -rf "$environment"
        python3 -m venv "$environment"
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check mypy setuptools
    fi
    cd "$here/python"
    "$environment/bin/mypy" --cache-dir "$scratch/mypy"
    "$environment/bin/python" -W error::ResourceWarning -m unittest
}

echo "clients: python"
(python)

# A copy, because a build leaves its files beside the sources.
typescript() {
    local copy=$scratch/copy
    mkdir -p "$copy/typescript"
    rm -rf "$copy/conformance" "$copy"/typescript/{src,test,dist}
    cp -R "$here/conformance" "$copy/"
    cp -R "$here"/typescript/{src,test,package.json,package-lock.json,tsconfig.json,README.md} "$copy/typescript/"
    cd "$copy/typescript"
    if ! cmp -s package-lock.json node_modules/.made-for; then
        npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
        cp package-lock.json node_modules/.made-for
    fi
    npm test --silent
}

echo "clients: typescript"
(typescript)
