# shellcheck shell=bash
# Output of contrib's scripts: short lines, colour only on a terminal.

if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

# heading TEXT: begins a new part of the run.
heading() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

# say TEXT...: one line for each argument.
say() { printf '%s\n' "$@"; }

# die STATUS TEXT...: prints the reason on standard error and ends the script.
die() {
    local status=$1
    shift
    printf '%s\n' "$@" >&2
    exit "$status"
}

# run COMMAND...: prints the command, then runs it.
run() {
    printf '$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

# A line for each step so far, the last lines of output of each failed step, and whether a step has failed.
summary=()
failure_output=()
failed=0

# step NAME COMMAND...: runs the command and records the result; a failure doesn't end the script.
step() {
    local name=$1 started=$SECONDS result=ok log copy copier
    shift
    heading "$name"
    log=$(mktemp)
    exec {copy}> >(exec tee "$log")
    copier=$!
    "$@" >&"$copy" 2>&1 || result=FAILED
    exec {copy}>&-
    # A process that the step has left running may hold the pipe open.
    timeout 5 tail -s 0.1 --pid="$copier" -f /dev/null || true
    if [[ $result != ok ]]; then
        failed=1
        # The failures of a test run stand far from the end of its output.
        failure_output+=("" "The end of $name:" "$({ grep -aE "^✘|error:" "$log" | head -n 40; tail -n 40 "$log"; } | cut -c 1-300)")
    fi
    rm -f "$log"
    summary+=("$(printf '  %-20s %-6s %4d s' "$name" "$result" $((SECONDS - started)))")
}

# show_summary TITLE LINE...: prints the results of the steps, and appends them to the file that POSTERN_SUMMARY names, if it is set.
show_summary() {
    heading "$1"
    shift
    { say "${summary[@]}" "$@" "${failure_output[@]}"; } | tee -a "${POSTERN_SUMMARY:-/dev/null}"
}
