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
    if [[ ! -e $environment/.made ]]; then
        rm -rf "$environment"
        python3 -m venv "$environment"
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
            'mypy==2.4.1; python_version >= "3.10"' 'mypy<2; python_version < "3.10"' "setuptools>=77" wheel
        touch "$environment/.made"
    fi
    (
        cd "$here/python"
        "$environment/bin/mypy" --cache-dir "$scratch/mypy"
        "$environment/bin/python" -W error::ResourceWarning -m unittest
    )
    # As a stranger gets it: built, installed, with its types.
    rm -rf "$scratch/package" "$scratch/stranger"
    cp -R "$here/python" "$scratch/package"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
        --no-build-isolation --no-deps --target "$scratch/stranger" "$scratch/package"
    cd "$scratch"
    PYTHONPATH=$scratch/stranger "$environment/bin/python" -c 'import anabranch, anabranch.wire.log'
    test -f "$scratch/stranger/anabranch/py.typed"
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
    # As a stranger gets it: packed, installed, with its types.
    rm -rf "$scratch/stranger-node"
    mkdir "$scratch/stranger-node"
    npm pack --silent --pack-destination "$scratch/stranger-node" >/dev/null
    cd "$scratch/stranger-node"
    echo '{"type":"module"}' >package.json
    npm install --silent --no-audit --no-fund ./anabranch-*.tgz
    echo 'import { open, type Client } from "anabranch"; export const client: Promise<Client> = open("http://127.0.0.1:1");' >program.ts
    node "$copy/typescript/node_modules/typescript/bin/tsc" --noEmit --strict --target es2022 \
        --module nodenext --skipLibCheck false --typeRoots "$copy/typescript/node_modules/@types" program.ts
    node -e 'await import("anabranch")' --input-type=module
}

echo "clients: typescript"
(typescript)
