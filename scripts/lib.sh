# Shell functions the scripts share. Sourced, never run; POSIX sh.

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2
    exit 1
}

# Runs a command, silent unless it fails: quietly <log file> <what it does> <command> [args]
quietly() {
    quiet_log=$1
    quiet_what=$2
    shift 2
    mkdir -p "$(dirname -- "$quiet_log")"
    if ! "$@" >"$quiet_log" 2>&1; then
        tail -n 60 "$quiet_log" >&2
        die "$quiet_what failed; the whole log is $quiet_log"
    fi
}

# Two at a time on a machine that does not say how many processors it has.
job_count() {
    nproc 2>/dev/null || echo 2
}

# as_root <command> [args]: directly as root, else through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        die "packages are missing and neither root nor sudo is at hand; as root run: $*"
    fi
}

# configure_and_build <preset> [target ...]: everything, or the targets named
configure_and_build() {
    preset=$1
    shift
    preset_log=$root/build/log/$preset
    quietly "$preset_log.configure" "configuring preset $preset" \
        cmake -S "$root" --preset "$preset"
    quietly "$preset_log.build" "building preset $preset" \
        cmake --build "$(preset_folder "$preset")" -j "$(job_count)" ${1:+--target "$@"}
}

preset_folder() {
    if [ "$1" = release ]; then
        echo "$root/build"
    else
        echo "$root/build/$1"
    fi
}
