# shellcheck shell=bash
# Finds missing packages and installs them through apt. Needs output.sh.

# The lowest version of Swift that builds Postern, as in Package.swift.
readonly swift_needed=6.2

# The release build, with the options of README.md, so that all scripts share one build.
# shellcheck disable=SC2034  # For the scripts.
readonly release_build=(swift build -c release --static-swift-stdlib --product postern)

# as_root COMMAND...: prints the command and runs it, with sudo if the caller isn't root.
as_root() {
    if ((EUID == 0)); then
        run "$@"
    else
        run sudo "$@"
    fi
}

# as_root_quietly COMMAND...: the same without printing it.
as_root_quietly() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# can_be_root: true for root, and if sudo needs no password or can ask for it.
can_be_root() {
    ((EUID == 0)) || { command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; }
}

# require_swift_command: ends with status 69 if there is no toolchain.
require_swift_command() {
    command -v swift >/dev/null || die 69 \
        "No Swift toolchain: there is no command 'swift' in PATH." \
        "Postern needs Swift $swift_needed or later. Debian has no package of it:" \
        "install it from https://www.swift.org/install/linux/ and run this again."
}

# require_swift: ends with status 69 if the toolchain is too old or doesn't run.
require_swift() {
    local found
    found=$(swift --version 2>/dev/null | sed -nE 's/.*Swift version ([0-9]+(\.[0-9]+)+).*/\1/p' | head -n 1)
    [[ -n $found ]] || die 69 "$(command -v swift) doesn't run: $(swift --version 2>&1 | head -n 3)"
    if [[ $(printf '%s\n' "$swift_needed" "$found" | sort -V | head -n 1) != "$swift_needed" ]]; then
        die 69 "Swift $found is too old: $(command -v swift)" \
            "Postern needs Swift $swift_needed or later: https://www.swift.org/install/linux/"
    fi
    say "Swift $found: $(command -v swift)"
}

# toolchain_packages_missing: prints the packages of libraries that the toolchain's programs need and don't find, one a line.
toolchain_packages_missing() {
    local folder
    folder=$(dirname "$(readlink -f "$(command -v swift)")")
    ldd "$folder/swift-package" "$folder/swift-frontend" 2>/dev/null | sed -nE 's/^\s*(\S+) => not found$/\1/p' | sort -u |
        while read -r library; do
            case $library in
            libcurl.so.4) echo libcurl4 ;;
            libxml2.so.2) echo libxml2 ;;
            libncurses.so.6 | libtinfo.so.6) echo libncurses6 ;;
            libsqlite3.so.0) echo libsqlite3-0 ;;
            libstdc++.so.6) echo libstdc++6 ;;
            libuuid.so.1) echo libuuid1 ;;
            libedit.so.2) echo libedit2 ;;
            libz.so.1) echo zlib1g ;;
            esac
        done
}

# build_packages_missing: prints the missing packages that the build needs, one a line. Libraries that dpkg doesn't know count, too.
build_packages_missing() {
    toolchain_packages_missing
    command -v git >/dev/null || echo git
    command -v pkg-config >/dev/null || echo pkg-config
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || echo ca-certificates
    # Swift links with the C compiler's libraries, and the TOML parser is in C++.
    compgen -G '/usr/include/c++/*/vector' >/dev/null || echo g++
    library_missing milter libmilter/mfapi.h && echo libmilter-dev
    library_missing libidn2 idn2.h && echo libidn2-dev
    library_missing sqlite3 sqlite3.h && echo libsqlite3-dev
    library_missing ldap ldap.h && echo libldap-dev
    library_missing libsasl2 sasl/sasl.h && echo libsasl2-dev
    library_missing gnutls gnutls/gnutls.h && echo libgnutls28-dev
    library_missing libmicrohttpd microhttpd.h && echo libmicrohttpd-dev
    library_missing tomlplusplus toml++/toml.h && echo libtomlplusplus-dev
    # A program with Swift's libraries linked in needs it.
    library_missing libcurl curl/curl.h && echo libcurl4-openssl-dev
    return 0
}

# hot_path_packages_missing: prints the missing packages that contrib/hot-path needs, one a line.
hot_path_packages_missing() {
    command -v valgrind >/dev/null || echo valgrind
    command -v perl >/dev/null || echo perl
    command -v objcopy >/dev/null || echo binutils
}

# faults_packages_missing: prints the missing packages that contrib/faults needs, one a line.
faults_packages_missing() {
    command -v cc >/dev/null || printf '%s\n' gcc libc6-dev
    command -v python3 >/dev/null || echo python3
}

# package_packages_missing: prints the missing packages that contrib/package needs, one a line.
package_packages_missing() {
    command -v dpkg-buildpackage >/dev/null || echo dpkg-dev
    command -v dh >/dev/null || echo debhelper
    [[ -e /usr/bin/dh_apparmor ]] || echo dh-apparmor
    command -v chrpath >/dev/null || echo chrpath
    command -v lintian >/dev/null || echo lintian
}

# documents_packages_missing: prints the missing packages that contrib/lib/documents needs, one a line.
documents_packages_missing() {
    command -v mandoc >/dev/null || echo mandoc
    command -v man >/dev/null || echo man-db
    command -v groff >/dev/null || echo groff-base
    command -v python3 >/dev/null || echo python3
}

# library_missing NAME HEADER: true if neither pkg-config nor the compiler would find the library.
library_missing() {
    ! pkg-config --exists "$1" 2>/dev/null && [[ ! -e /usr/include/$2 ]]
}

# other_mta: prints the name of this machine's MTA if that isn't Postfix; nothing if there is no MTA.
other_mta() {
    local name
    name=$(dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\t${Provides}\n' 2>/dev/null |
        awk -F '\t' '$1 ~ /^ii/ && $2 != "postfix" && $3 ~ /(^|[ ,])mail-transport-agent/ { print $2; exit }')
    if [[ -z $name ]] && ! command -v "$(sbin postfix)" >/dev/null && [[ -x /usr/sbin/sendmail ]]; then
        name=$(readlink -f /usr/sbin/sendmail)
    fi
    [[ -z $name ]] || say "$name"
}

# sbin NAME: prints the path of a program, also if PATH lacks /usr/sbin.
sbin() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" || say "/usr/sbin/$1"; }

# have_postfix: true if Postfix is installed.
have_postfix() { [[ -x $(sbin postfix) ]]; }

# sasl_packages_missing: prints the missing packages that a test's MTA needs for authentication, one a line.
sasl_packages_missing() {
    [[ -x $(sbin saslpasswd2) ]] || echo sasl2-bin
    compgen -G '/usr/lib/*/sasl2/libplain.so*' >/dev/null || echo libsasl2-modules
    compgen -G '/usr/lib/*/sasl2/libsasldb.so*' >/dev/null || echo libsasl2-modules-db
}

# have_sendmail FOLDER: true if unpack_sendmail has finished there.
have_sendmail() { [[ -x $1/usr/libexec/sendmail/sendmail && -e $1/depends ]]; }

# unpack_sendmail FOLDER: unpacks Debian's Sendmail for a private instance. It can't be installed beside Postfix: the packages are
# downloaded and unpacked into FOLDER, and neither configured nor started.
unpack_sendmail() {
    local folder=$1 packages package
    command -v apt-get >/dev/null || die 69 "Sendmail can't be downloaded: this system has no apt-get."
    packages=$(mktemp -d)
    (cd "$packages" && download_packages sendmail-bin sendmail-cf) ||
        die 69 "apt-get could not download sendmail-bin and sendmail-cf."
    rm -rf "$folder" "$folder.new"
    mkdir -p "$folder.new"
    for package in "$packages"/*.deb; do dpkg-deb -x "$package" "$folder.new"; done
    # The packages of its libraries, one a line, without its own.
    dpkg-deb -f "$packages"/sendmail-bin_*.deb Depends | tr , '\n' | awk '$1 !~ /^sendmail-/ { print $1 }' \
        >"$folder.new/depends"
    rm -rf "$packages"
    mv "$folder.new" "$folder"
    say "Sendmail was unpacked into $folder; it is not installed."
}

# download_packages PACKAGE...: downloads packages into the working folder; if that fails, updates apt's lists and tries again.
download_packages() {
    # As root, apt downloads as another user, who can't write here.
    local options=(-qq -o APT::Sandbox::User=root)
    run apt-get "${options[@]}" download "$@" && return
    as_root apt-get -qq -o DPkg::Lock::Timeout=300 update && run apt-get "${options[@]}" download "$@"
}

# sendmail_packages_missing FOLDER: prints the missing packages that an unpacked Sendmail needs, one a line.
sendmail_packages_missing() {
    local package
    command -v m4 >/dev/null || echo m4
    command -v unshare >/dev/null || echo util-linux
    [[ ! -e $1/depends ]] || while read -r package; do
        [[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || echo "$package"
    done <"$1/depends"
}

# directory_packages_missing: prints the missing packages that the tests with private directories need, one a line.
directory_packages_missing() {
    command -v openssl >/dev/null || echo openssl
    command -v ldapmodify >/dev/null || echo ldap-utils
    [[ -x $(sbin slapd) ]] || echo slapd
    [[ -x $(sbin ns-slapd) ]] || echo 389-ds-base
    # Samba's domain controller consists of several packages, since 4.20 of one more.
    if [[ ! -x $(sbin samba) ]]; then
        if dpkg --compare-versions "$(candidate samba)" ge 2:4.20; then echo samba-ad-dc; else echo samba; fi
    fi
    compgen -G '/usr/lib/*/samba/ldb/dirsync.so' >/dev/null || echo samba-dsdb-modules
    [[ -e /usr/share/samba/setup/provision.ldif ]] || echo samba-ad-provision
    command -v kinit >/dev/null || echo krb5-user
    compgen -G '/usr/lib/*/sasl2/libgssapiv2.so' >/dev/null || echo libsasl2-modules-gssapi-mit
}

# monitoring_packages_missing: prints the missing packages that the tests of metrics and of the live page need, one a line.
# Prometheus is for its promtool; it isn't started.
monitoring_packages_missing() {
    command -v curl >/dev/null || echo curl
    command -v promtool >/dev/null || echo prometheus
    command -v chromium >/dev/null || echo chromium
}

# have_monitoring_packages: true if these are installed or apt can install them. Ubuntu has no package of Chromium.
have_monitoring_packages() {
    local package
    while read -r package; do
        [[ -n $(candidate "$package") && $(candidate "$package") != '(none)' ]] || return 1
        # A package that only installs a snap, which needs snapd to run.
        [[ $package != chromium || $(candidate chromium) != *snap* ]] || return 1
    done < <(monitoring_packages_missing)
}

# candidate PACKAGE: prints the version that apt would install.
candidate() { LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -nE 's/^ *Candidate: (.+)/\1/p'; }

# directory_port_taken: prints a port of LDAP or Kerberos on which a program listens on all addresses; nothing if each port is free on
# at least one address.
directory_port_taken() {
    local port hex
    for port in 389 636 3268 3269 88 464; do
        printf -v hex %04X "$port"
        # An address of zeros, the port, no peer, listening.
        if grep -qsE ": 0+:$hex 0+:0000 0A " /proc/net/tcp /proc/net/tcp6; then
            say "$port"
            return 0
        fi
    done
}

# install_packages PACKAGE...: installs packages through apt, without questions and without starting a service.
install_packages() {
    command -v apt-get >/dev/null || die 69 "This system has no apt-get; install its packages for these: $*"
    can_be_root || die 77 "Installing needs root, and sudo isn't available. As root:" "  apt-get install $*"
    as_root apt-get -qq -o DPkg::Lock::Timeout=300 update
    local status=0 service new=()
    trap remove_guard EXIT
    if [[ " $* " == *" postfix "* ]]; then
        # Without this answer the package would ask a question or take over the machine's mail.
        say "Postfix is installed without a configuration: the mail of this machine stays as it is."
        as_root debconf-set-selections <<<'postfix postfix/main_mailer_type select No configuration'
    fi
    if [[ " $* " == *" slapd "* ]]; then
        say "slapd is installed without a directory."
        as_root debconf-set-selections <<<'slapd slapd/no_configuration boolean true'
    fi
    [[ -e $guard ]] || as_root install -m 755 /dev/stdin "$guard" <<<"$guard_text"
    for service in "${directory_services[@]}"; do
        [[ -e /etc/init.d/$service ]] || new+=("$service")
    done
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        install --no-install-recommends "$@" </dev/null || status=$?
    for service in "${new[@]}"; do
        [[ -e /etc/init.d/$service ]] || continue
        say "$service doesn't start with the machine: update-rc.d $service disable"
        as_root_quietly update-rc.d "$service" disable >/dev/null 2>&1 || true
    done
    remove_guard
    trap - EXIT
    ((status == 0)) || die 69 "apt-get could not install: $*"
}

# Services that the packages of the tests would start with the machine.
readonly directory_services=(slapd smbd nmbd samba-ad-dc winbind prometheus prometheus-node-exporter)

# While this file exists, the installation of a package starts no service (Debian's policy-rc.d). A policy of the machine's own stays.
readonly guard=/usr/sbin/policy-rc.d
readonly guard_text=$'#!/bin/sh\n# Made by contrib/lib/packages.sh of Postern for one installation; can be removed.\nexit 101'

# remove_guard: removes that file, also one left by a run that was killed.
remove_guard() {
    if [[ -f $guard && $(<"$guard") == "$guard_text" ]]; then as_root rm -f "$guard"; fi
}
