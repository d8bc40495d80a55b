# shellcheck shell=bash
# What contrib's scripts say, and how: short lines, colour only on a terminal.

if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

# heading TEXT: a new part of the run.
heading() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

# say TEXT...: one line for each argument.
say() { printf '%s\n' "$@"; }

# die STATUS TEXT...: the reason on standard error, then the end.
die() {
    local status=$1
    shift
    printf '%s\n' "$@" >&2
    exit "$status"
}

# run COMMAND...: shows the command, then runs it.
run() {
    printf '$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

# The lines of the steps that have been, and whether one has failed.
summary=()
failed=0

# step NAME COMMAND...: runs it, and goes on whatever comes of it.
step() {
    local name=$1 started=$SECONDS result=ok
    shift
    heading "$name"
    "$@" || result=FAILED
    # shellcheck disable=SC2034  # For the script.
    [[ $result == ok ]] || failed=1
    summary+=("$(printf '  %-20s %-6s %4d s' "$name" "$result" $((SECONDS - started)))")
}
