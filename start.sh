#!/bin/sh
# Starts droid2api; the first start makes .venv. Arguments go to `python -m droid2api`.
set -eu
DROID2API_CALLED_FROM=$PWD && export DROID2API_CALLED_FROM # a tool that `run` starts works there
cd -- "$(dirname -- "$0")"

python=.venv/bin/python
stamp=.venv/droid2api-installed

# What the environment was made for: another Python or other dependencies want a new installation.
wanted() {
    echo "$("$python" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null) $(cat pyproject.toml requirements*.lock | cksum)"
}

stop() {
    echo "start.sh: $1" >&2
    exit 2
}

find_python() {
    old=
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        command -v "$name" >/dev/null 2>&1 || continue
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$name" -c 'import ensurepip, venv' 2>/dev/null ||
                stop "$name has no venv module: install it (Debian and Ubuntu: apt install python3-venv) and start again."
            return
        fi
        old="$name is $("$name" -c 'import platform; print(platform.python_version())' 2>/dev/null || echo not working)"
    done
    [ -n "$old" ] && stop "$old, but droid2api needs Python 3.11 or newer: install one (https://www.python.org/downloads/)."
    stop "there is no python3: install Python 3.11 or newer (https://www.python.org/downloads/) with its venv module."
}

if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$(wanted)" ]; then
    if ! "$python" -m pip --version >/dev/null 2>&1; then # missing, or left half-made by an interrupted start
        find_python
        "$name" -m venv --clear .venv ||
            stop ".venv cannot be made in $PWD, for the reason above: the folder must be yours, with space on its disk."
    fi
    echo "start.sh: installing droid2api into .venv (this once) ..." >&2
    rm -f "$stamp"
    pip="$python -m pip install --quiet --disable-pip-version-check"
    { # exactly what was tested, whatever the index offers
        $pip --require-hashes --requirement requirements.lock && $pip --no-deps --editable .
    } || stop "pip failed for the reason above. Without a way to PyPI: HTTPS_PROXY names a proxy, PIP_INDEX_URL a mirror."
    $pip --require-hashes --only-binary :all: --requirement requirements-fast.lock 2>/dev/null ||
        echo "start.sh: there is no uvloop for this Python; its own event loop serves." >&2
    wanted >"$stamp"
fi

exec "$python" -m droid2api "$@"
