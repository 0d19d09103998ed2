#!/bin/sh
# Check what the Makefile needs of this machine, before anything is installed, and say in one sentence what to do.
#
#   dev/machine.sh pick                    print the name of a Python that can be used, or nothing
#   dev/machine.sh python VENV [PYTHON]    check the virtual environment, or the Python that will make it
#   dev/machine.sh node                    check Node and npm
set -u

OLDEST_PYTHON=11 # of 3
OLDEST_NODE=20

fail() {
    echo "$*" >&2
    exit 1
}

# Print the version of a Python as 3.11, or nothing if it does not run.
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

new_enough() {
    case $1 in
    3.*) [ "${1#3.}" -ge "$OLDEST_PYTHON" ] ;;
    *) false ;;
    esac
}

# A command may exist and not run, as the shims of pyenv do: hence each is run.
pick() {
    for name in python3.11 python3.12 python3.13 python3.14 python3 python; do
        if new_enough "$(version_of "$name")"; then
            echo "$name"
            return
        fi
    done
}

check_venv() { # VENV [PYTHON]
    again="run \`rm -r $1\` and then make again, which sets it up anew"
    here=$(version_of "$1/bin/python")
    made=$(sed -n 's/^version *= *\([0-9]*\.[0-9]*\).*/\1/p' "$1/pyvenv.cfg" 2>/dev/null)
    [ -n "$here" ] || fail "$1 was made by a Python ${made:+$made }that is no longer here: $again."
    new_enough "$here" || fail "$1 was made by Python $here, and Baton needs 3.$OLDEST_PYTHON or later: $again."
    [ "$here" = "${made:-$here}" ] || fail "$1 was made by Python $made, and its python is now $here: $again."
    if [ -n "${2:-}" ]; then
        wanted=$(version_of "$2")
        [ "$here" = "$wanted" ] || fail "$1 was made by Python $here, and PYTHON=$2 is ${wanted:-missing}: $again; or name another folder with VENV=."
    fi
}

check_python() { # [PYTHON]
    python=${1:-$(pick)}
    if [ -z "$python" ]; then
        found=$(version_of python3)
        fail "Baton needs Python 3.$OLDEST_PYTHON or later, and python3 here is ${found:-missing}:" \
            "install a later one, or name it with \`make PYTHON=/path/to/python3.12 ...\`."
    fi
    found=$(version_of "$python")
    new_enough "$found" ||
        fail "Baton needs Python 3.$OLDEST_PYTHON or later, and PYTHON=$python is ${found:-missing}: name a later one."
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make virtual environments: install its venv module, on Debian and Ubuntu with" \
            "\`apt install python$found-venv\`."
}

check_node() {
    found=$(node --version 2>/dev/null)
    found=${found#v}
    install="install a later one, from nodejs.org or with a version manager such as nvm"
    [ -n "$found" ] ||
        fail "Baton needs Node $OLDEST_NODE or later for its local storage, and node is missing: $install."
    [ "${found%%.*}" -ge "$OLDEST_NODE" ] ||
        fail "Baton needs Node $OLDEST_NODE or later for its local storage, and node here is $found: $install."
    npm --version >/dev/null 2>&1 ||
        fail "npm is missing: it comes with Node from nodejs.org, and on Debian and Ubuntu with \`apt install npm\`."
}

case ${1:-} in
pick) pick ;;
python) if [ -e "$2" ]; then check_venv "$2" "${3:-}"; else check_python "${3:-}"; fi ;;
node) check_node ;;
*) fail "usage: dev/machine.sh pick | python VENV [PYTHON] | node" ;;
esac
