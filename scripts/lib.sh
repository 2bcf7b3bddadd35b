# Shared by the scripts here, and sourced by them: an interpreter and an environment, also on a bare machine.
# Everything it says goes to standard error. Needs bash; installs system packages only where one is missing.

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

_fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# Sets PYTHON to an interpreter of 3.11 or newer. A PYTHON that is set already is taken, or refused. The system's own goes
# before what is found first: that one is built for speed; one that somebody has built here may take a tenth to a third longer.
find_python() {
    local name
    if [ -n "${PYTHON:-}" ]; then
        _fits "$PYTHON" || fail "PYTHON=$PYTHON is not Python 3.11 or newer"
        return 0
    fi
    for name in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if _fits "$name"; then
            PYTHON=$name
            return 0
        fi
    done
    return 1
}

# Installs Debian packages, as root or by sudo. Waits for another package manager that is at work. No service that comes
# with one is started, now or at the next boot.
apt_install() {
    local as_root=()
    command -v apt-get >/dev/null || fail "please install $* (there is no apt-get here)"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "please install $* (this needs root, and there is no sudo)"
        as_root=(sudo)
    fi
    local get=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
    say "installing $*"
    # A list of packages may be out of date, or missing on a fresh machine.
    "${get[@]}" update >&2 || say "warning: the list of packages could not be brought up to date"
    # Packages ask this file whether they may start what they bring; somebody else's answer stays.
    local policy=/usr/sbin/policy-rc.d ours=no status package
    if [ ! -e $policy ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
        "${as_root[@]}" chmod +x $policy
    fi
    "${get[@]}" install --no-install-recommends "$@" >&2
    status=$?
    [ $ours = no ] || "${as_root[@]}" rm -f $policy
    for package in "$@"; do
        "${as_root[@]}" systemctl --quiet disable "$package" >/dev/null 2>&1 || true
    done
    return $status
}

# has_program NAME: whether a program is anywhere that Debian puts such.
has_program() {
    local place
    for place in $(command -v "$1") /usr/sbin/"$1" /usr/lib/postgresql/*/bin/"$1"; do
        [ -x "$place" ] && return 0
    done
    return 1
}

# has_library NAME: a shared library that a program needs which no package manager brought.
has_library() { [[ $(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null) == *"$1"* ]]; }

_can_make_environments() { "$PYTHON" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Sets PYTHON to one that can make environments; installs what is missing for that.
ensure_python() {
    local version
    if ! find_python; then
        apt_install python3 python3-venv
        find_python || fail "Python 3.11 or newer is needed; PYTHON=… may name one"
    fi
    _can_make_environments && return 0
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    apt_install "python$version-venv" || apt_install python3-venv || true
    _can_make_environments || fail "$PYTHON lacks the modules venv and ensurepip"
}

# ensure_environment DIRECTORY WHAT [FIRST …]: an environment with WHAT (as pip takes it) installed, made anew whenever
# pyproject.toml, the interpreter, its own place or WHAT has changed. FIRST is brought up to date before. Sets nothing;
# DIRECTORY/bin/python is the result.
ensure_environment() {
    local directory=$1 what=$2 first=("${@:3}") key
    ensure_python
    key=$({
        cat pyproject.toml
        "$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)'
        printf '%s %s\n' "$directory" "$what"
    } | cksum)
    (
        # One at a time: two runs would build the same environment into each other.
        if command -v flock >/dev/null; then flock 9; fi
        [ "$(cat "$directory/.key" 2>/dev/null)" = "$key" ] && exit 0
        say "making an environment in $directory"
        rm -rf "$directory" # also what a killed run left half made
        "$PYTHON" -m venv "$directory" || exit 1
        echo '*' >"$directory/.gitignore"
        local install=("$directory/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-compile)
        [ ${#first[@]} -eq 0 ] || "${install[@]}" --upgrade "${first[@]}" >&2 || say "warning: no newer ${first[*]}"
        "${install[@]}" --editable "$what" >&2 || exit 1
        printf '%s\n' "$key" >"$directory/.key"
    ) 9<pyproject.toml || fail "the environment in $directory could not be made"
    # Tests start thousands of processes. Where PYTHONDONTWRITEBYTECODE is set, as in many images, each of them would
    # compile all that it imports; what an application of a test has is compiled as the caller wishes.
    "$directory/bin/python" -m compileall -q -j 0 "$directory/lib" src tests >/dev/null 2>&1 || true
}

# The browser that tests drive, unless JOBCARD_TEST_CHROMIUM names another.
has_browser() {
    local name
    [ -n "${JOBCARD_TEST_CHROMIUM:-}" ] && return 0
    for name in chromium chromium-browser google-chrome; do
        command -v $name >/dev/null && return 0
    done
    return 1
}

# What is missing, by the names of packages; $@: those to look at, as `CONDITION:PACKAGES`.
_missing() {
    local each
    for each in "$@"; do
        ${each%%:*} || printf '%s ' "${each#*:}"
    done
}

# The servers that tests start, and the browser if `browser` is said. What is missing is installed, and what cannot be
# had is an error of the tests that need it.
ensure_servers() {
    local missing each wanted=(
        "has_program postgres:postgresql"
        "has_program pgbouncer:pgbouncer"
        "has_program redis-server:redis-server"
        "has_program mariadbd:mariadb-server-core mariadb-client-core"
        # The MongoDB server of the test extra comes without it.
        "has_library libcurl.so.4:libcurl4"
    )
    [ "${1:-}" = browser ] && wanted+=("has_browser:chromium")
    # Only the program: no cluster that runs from now on.
    if [ "$(id -u)" -eq 0 ] && [ ! -e /etc/postgresql-common/createcluster.d/jobcard.conf ]; then
        mkdir -p /etc/postgresql-common/createcluster.d
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/jobcard.conf
    fi
    missing=$(_missing "${wanted[@]}")
    [ -z "$missing" ] && return 0
    # All at once is quickest. Mirrors have bad moments, and one package that cannot be had must not keep the others out.
    # shellcheck disable=SC2086
    apt_install $missing && return 0
    for each in $(_missing "${wanted[@]}"); do
        say "trying again: $each"
        apt_install "$each" || say "warning: $each could not be installed"
    done
}
