# shellcheck shell=bash
# Roots: Debian releases in folders, made by debootstrap, in which scripts run apart from the machine's packages. Needs output.sh,
# packages.sh and $root, the checkout. All functions need root.

# After a change of this text all roots are made anew.
readonly root_recipe='3: minbase systemd systemd-sysv dbus'

# prepare_roots RELEASE: makes the folder $roots, which the functions below need:
#   pristine  the root as debootstrap made it, to be copied; no program runs in it
#   LAYER     a copy in which scripts run
#   build     the build folder of the checkout as the release sees it
#   archives  packages that apt has downloaded
prepare_roots() {
    # shellcheck disable=SC2154  # Set by the script.
    roots=$root/.build/roots/$1
    mkdir -p "$roots/build" "$roots/archives/partial"
    # A script that this one has started shares its lock.
    if [[ ${POSTERN_ROOTS_HELD:-} != "$roots" ]]; then
        exec {roots_lock}>"$roots/lock"
        flock -n "$roots_lock" || die 75 "Another run is using $roots."
        export POSTERN_ROOTS_HELD=$roots
    fi
    toolchain=$(toolchain_folder)
    if root_is_sound pristine; then return; fi
    local missing=() options=()
    command -v debootstrap >/dev/null || missing+=(debootstrap)
    command -v unshare >/dev/null || missing+=(util-linux)
    ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
    rm -rf --one-file-system "$roots/new" "$roots/pristine"
    # A machine without Debian has no mirror configured; debootstrap knows one.
    mapfile -t options < <(debian_mirror)
    run debootstrap --variant=minbase --include="$(cut -d ' ' -f 3- <<<"$root_recipe" | tr ' ' ,)" "$1" "$roots/new" \
        "${options[@]}" >"$roots/debootstrap.log" 2>&1 ||
        die 69 "debootstrap could not make a root of $1:" "$(tail -n 5 "$roots/debootstrap.log")"
    # No service starts when its package is installed, and no package asks a question.
    install -m 755 /dev/stdin "$roots/new/usr/sbin/policy-rc.d" <<<$'#!/bin/sh\nexit 101'
    echo 'APT::Get::Assume-Yes "true"; APT::Install-Recommends "false"; Acquire::Retries "5";' >"$roots/new/etc/apt/apt.conf.d/90postern"
    # No fsync: a root that a power cut has damaged is made anew.
    echo force-unsafe-io >"$roots/new/etc/dpkg/dpkg.cfg.d/postern"
    git_addresses "$roots/new/etc/gitconfig"
    echo "$root_recipe" >"$roots/new/etc/postern-root"
    mv "$roots/new" "$roots/pristine"
}

# root_is_sound LAYER: true if dpkg reports no interrupted installation in it.
root_is_sound() {
    [[ $(cat "$roots/$1/etc/postern-root" 2>/dev/null) == "$root_recipe" ]] &&
        [[ $(chroot "$roots/$1" dpkg --audit 2>&1) == '' ]]
}

# copy_root LAYER: makes a new copy of the pristine root.
copy_root() {
    rm -rf --one-file-system "${roots:?}/$1" "$roots/copy"
    cp -a --reflink=auto "$roots/pristine" "$roots/copy"
    mv "$roots/copy" "$roots/$1"
}

# keep_root LAYER: keeps the existing copy, or makes a new one.
keep_root() { root_is_sound "$1" || copy_root "$1"; }

# in_root LAYER COMMAND...: runs the command in that root, in the checkout, which is /srv/postern there. All processes that it starts end
# with it, or with this script.
in_root() {
    local layer=$1 variables=() folders=("$toolchain") folder name
    shift
    while read -r folder; do folders+=("$folder"); done < <(git_folders)
    for name in TERM http_proxy https_proxy no_proxy ${!POSTERN_*}; do
        [[ -z ${!name:-} || $name == POSTERN_ROOTS_HELD || $name == POSTERN_SUMMARY ]] || variables+=("$name=${!name}")
    done
    with_this_script unshare --mount --pid --fork --kill-child "$root/contrib/lib/in-root" "$roots/$layer" "$root" \
        "$roots/build" "$roots/archives" "${folders[@]}" -- -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        "PATH=$toolchain/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "${variables[@]}" "$@"
}

# with_this_script COMMAND...: runs the command, which ends when this script ends, even by SIGKILL.
with_this_script() {
    local status=0
    setpriv --pdeathsig KILL "$@" </dev/null &
    companion=$!
    trap 'kill -KILL "$companion" 2>/dev/null; exit 143' INT TERM HUP
    wait "$companion" || status=$?
    trap - INT TERM HUP
    return "$status"
}

# booted LAYER COMMAND: boots that root with systemd, without the machine's network, and runs the command there, in the checkout. Its
# status is the command's.
booted() {
    local layer=$1 command=$2 status=0
    command -v systemd-nspawn >/dev/null || install_packages systemd-container
    rm -f "$roots/$layer/var/log/try"
    cat >"$roots/$layer/etc/systemd/system/try.service" <<END
[Unit]
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
Environment=LANG=C.UTF-8 HOME=/root
WorkingDirectory=/srv/postern
ExecStart=/srv/postern/$command
StandardOutput=truncate:/var/log/try
StandardError=inherit
END
    with_this_script timeout --foreground --kill-after=10 600 \
        setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc \
        systemd-nspawn --quiet --directory="$roots/$layer" --boot --register=no --keep-unit \
        --private-network --console=pipe --bind-ro="$root:/srv/postern" \
        systemd.mask=console-getty.service systemd.wants=try.service >"$roots/boot.log" 2>&1 || status=$?
    # The console's output matters only if the command was never started.
    cat "$roots/$layer/var/log/try" || cat "$roots/boot.log"
    return "$status"
}

# toolchain_folder: prints where the Swift toolchain is unpacked.
toolchain_folder() {
    local folder
    folder=$(dirname "$(readlink -f "$(command -v swift)")")
    [[ $folder == */usr/bin && $folder != /usr/bin ]] ||
        die 69 "The Swift toolchain is a part of this system, in $folder, and can't be shared with a root of another release." \
            "Unpack a toolchain in a folder of its own: https://www.swift.org/install/linux/"
    say "${folder%/usr/bin}"
}

# debian_mirror: prints the address from which apt takes Debian's packages; nothing if it takes none.
debian_mirror() {
    # shellcheck disable=SC2016  # For apt-get, not the shell.
    apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '$1 == "Debian" && $2 == "Debian" { print $3; exit }'
}

# git_replacements: prints the addresses that git replaces on this machine, one a line: the replacement, a space, the address.
git_replacements() {
    git config --get-regexp '^url\..*\.insteadof$' | sed -nE 's/^url\.(\S+)\.insteadof (.*)/\1 \2/p'
}

# git_addresses FILE: configures the same replacements for the git of a root.
git_addresses() {
    local base replaced
    while read -r base replaced; do
        git config --file "$1" --add "url.$base.insteadOf" "$replaced"
    done < <(git_replacements)
}

# git_folders: prints the folders of this machine among the replacements.
git_folders() {
    local base replaced
    while read -r base replaced; do
        [[ $base != /* || ! -d $base ]] || say "${base%/}"
    done < <(git_replacements) | sort -u
}
