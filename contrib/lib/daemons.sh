# shellcheck shell=bash
# Daemons that a script starts for itself on the loopback address, and ends. Needs output.sh and packages.sh.

# unused_port [OTHER]: prints a TCP port of 127.0.0.1 on which no program listens, and which isn't OTHER. It is below the range that the
# kernel uses for outgoing connections.
unused_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        [[ $port != "${1:-}" ]] && ! port_answers "$port" && break
    done
    say "$port"
}

# port_answers PORT: true if 127.0.0.1 accepts connections on this port.
port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# wait_for_port PORT [PID]: waits until the port answers; fails after 30 s, or when the process has ended.
wait_for_port() {
    local try
    for ((try = 0; try < 300; try++)); do
        port_answers "$1" && return 0
        [[ -z ${2:-} ]] || kill -0 "$2" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

# claim_folder FOLDER: records that this script works in the folder.
claim_folder() { say "$$ $(start_time $$)" >"$1/owner"; }

# start_time PID: prints when the process began, in the kernel's ticks. Process ID and start time together identify a process.
start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # The command's name, in brackets, may contain anything; the start time is the 22nd field of all.
    read -ra stat <<<"${stat##*) }"
    say "${stat[19]}"
}

# clear_leftovers PREFIX: ends processes that killed scripts have left running in their folders PREFIX.XXXXXX.
clear_leftovers() {
    local folder pid started
    for folder in "$1".??????; do
        # Only folders of this user: others can write below /tmp, too.
        [[ -d $folder && ! -L $folder && -O $folder && -f $folder/owner ]] || continue
        read -r pid started <"$folder/owner" || continue
        [[ -n $started && $(start_time "$pid") != "$started" ]] || continue
        stop_postfix "$folder"
        [[ -f $folder/postern.pid ]] || continue
        read -r pid <"$folder/postern.pid" || continue
        if tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$folder/"; then
            say "Ending postern, process $pid, which an earlier run has left"
            kill "$pid" 2>/dev/null || true
        fi
    done
}

# start_postfix FOLDER PORT MILTER_PORT: starts a Postfix with configuration, queue, data and log in FOLDER/postfix.
start_postfix() {
    local base=$1/postfix port=$2 milter_port=$3
    mkdir -p "$base/etc" "$base/queue"
    cat >"$base/etc/main.cf" <<END
compatibility_level = 3.6
queue_directory = $base/queue
data_directory = $base/data
maillog_file = $base/maillog
maillog_file_prefixes = $base
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = gateway.example.test
mydestination =
local_recipient_maps =
alias_maps =
# Postern decides on recipients and relaying: Postfix lets every client of this
# machine relay, and knows no recipient.
mynetworks = 127.0.0.0/8
smtpd_reject_unlisted_recipient = no
relay_domains = example.com, example.net, example.org
# Accepted mail is discarded: nothing leaves this machine.
relay_transport = discard
default_transport = discard
smtpd_peername_lookup = no
smtpd_tls_security_level = none
smtpd_milters = inet:127.0.0.1:$milter_port
milter_default_action = tempfail
END
    cat >"$base/etc/master.cf" <<END
127.0.0.1:$port inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
anvil unix - - n - 1 anvil
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
postlog unix-dgram n - n - 1 postlogd
END
    as_root_quietly install -d -o postfix -m 700 "$base/data"
    as_root_quietly chown -R root "$base/etc" "$base/queue"
    as_root_quietly "$(sbin postfix)" -c "$base/etc" start >"$base/start.log" 2>&1 ||
        die 70 "The private Postfix didn't start:" "$(tail -n 5 "$base/start.log" "$base/maillog" 2>&1)"
    wait_for_port "$port" || die 70 "The private Postfix doesn't answer:" "$(tail -n 5 "$base/maillog" 2>&1)"
}

# stop_postfix FOLDER: ends the Postfix of start_postfix, if it is running.
stop_postfix() {
    local base=$1/postfix
    [[ -f $base/queue/pid/master.pid || -f $base/etc/master.cf ]] || return 0
    if as_root_quietly "$(sbin postfix)" -c "$base/etc" status >/dev/null 2>&1; then
        as_root_quietly "$(sbin postfix)" -c "$base/etc" stop >/dev/null 2>&1 || true
    fi
}
