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

# The lines of the steps that have been, the last words of those that have failed, and whether one has.
summary=()
last_words=()
failed=0

# step NAME COMMAND...: runs it, and goes on whatever comes of it.
step() {
    local name=$1 started=$SECONDS result=ok log copy copier
    shift
    heading "$name"
    log=$(mktemp)
    exec {copy}> >(exec tee "$log")
    copier=$!
    "$@" >&"$copy" 2>&1 || result=FAILED
    exec {copy}>&-
    # Something that the step has left running may hold its output open.
    timeout 5 tail -s 0.1 --pid="$copier" -f /dev/null || true
    if [[ $result != ok ]]; then
        failed=1
        # Of tests, what has failed stands far from the end.
        last_words+=("" "The end of $name:" "$({ grep -aE "^✘|error:" "$log" | head -n 40; tail -n 40 "$log"; } | cut -c 1-300)")
    fi
    rm -f "$log"
    summary+=("$(printf '  %-20s %-6s %4d s' "$name" "$result" $((SECONDS - started)))")
}

# show_summary TITLE LINE...: what has come of the steps, on standard output and, for a script that runs several, at the end of the
# file that POSTERN_SUMMARY names.
show_summary() {
    heading "$1"
    shift
    { say "${summary[@]}" "$@" "${last_words[@]}"; } | tee -a "${POSTERN_SUMMARY:-/dev/null}"
}
