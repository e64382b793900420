#!/bin/sh
# Makes rpm databases with real rpm tools, one of each kind that they can write, and what they say is in them.
# Usage: sh make_rpmdb.sh FOLDER
#   rpmdb.sqlite, rpmdb.ndb      Debian 12 and newer (apt-get install rpm)
#   rpmdb.berkeley               Debian 11, whose rpm is the last one that writes it
#   rpmdb.big-endian             where db5.3-util is there too: the same records in the other byte order, in pages so large
#                                that short headers stand on them, and in more buckets than are needed
#   rpmdb.expected, rpmdb.files  `rpm -qa` of the last kind that was made: the packages, and each file with its package
# The fixtures beside this script are these, with `xz -9e`. Nothing is installed.
set -eu
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build() { # name version release epoch arch folder files
    {
        printf 'Name: %s\nVersion: %s\nRelease: %s\nSummary: test\nLicense: Apache-2.0\n' "$1" "$2" "$3"
        if [ -n "$4" ]; then printf 'Epoch: %s\n' "$4"; fi
        if [ "$5" = noarch ]; then printf 'BuildArch: noarch\n'; fi
        printf '%%description\ntest\n%%install\nmkdir -p %%{buildroot}%s\ncd %%{buildroot}%s\n' "$6" "$6"
        if [ -n "$7" ]; then printf 'for one in %s; do : >$one; done\n' "$7"; fi
        printf '%%files\n'
        if [ -n "$7" ]; then printf '%s/*\n' "$6"; fi
    } >"$work/$1.spec"
    rpmbuild --quiet --define "_topdir $work" --define '__os_install_post %nil' --target "$5" -bb "$work/$1.spec"
}
manage() { # kind arguments: rpm on the database of this kind
    kind=$1
    shift
    rpm --dbpath "$work/$kind" --define "_db_backend $kind" "$@"
}
build removed 1 1 '' x86_64 /usr/share/removed '$(seq 400)'
build bash 5.2.26 3.el9 '' x86_64 /usr/bin bash
build openssl-libs 3.0.7 27.el9 1 x86_64 /usr ''
build openssl-libs 3.0.7 27.el9 1 i686 /usr ''
build tzdata 2024a 1.el9 '' noarch /usr/share/zoneinfo '$(seq 800)'
build kernel-core 5.14.0 427.el9 '' x86_64 /usr ''
build kernel-core 5.14.0 503.el9 '' x86_64 /usr ''
build git-core 2.43.5 1.el9 '' x86_64 /usr/bin git
for kind in sqlite ndb bdb; do
    mkdir "$work/$kind"
    rpmdb --dbpath "$work/$kind" --define "_db_backend $kind" --initdb || continue
    case $kind in
        sqlite) file=$work/sqlite/rpmdb.sqlite made=$out/rpmdb.sqlite ;;
        ndb) file=$work/ndb/Packages.db made=$out/rpmdb.ndb ;;
        bdb) file=$work/bdb/Packages made=$out/rpmdb.berkeley ;;
    esac
    if [ ! -e "$file" ]; then continue; fi
    # The one that goes stands first, so that it leaves a gap.
    for one in "$work"/RPMS/*/removed-*.rpm "$work"/RPMS/*/[!r]*.rpm; do
        manage $kind -i --justdb --nodeps --noscripts --ignorearch --oldpackage --force "$one"
    done
    manage $kind -e --justdb --nodeps --noscripts removed
    manage $kind -qa --qf '%{NAME} %{EVR} %{ARCH}\n' | LC_ALL=C sort >"$out/rpmdb.expected"
    manage $kind -qa --qf '[%{=NAME} %{FILENAMES}\n]' | LC_ALL=C sort >"$out/rpmdb.files"
    cp "$file" "$made"
done
if [ -e "$out/rpmdb.berkeley" ] && command -v db5.3_load >/dev/null; then
    db5.3_dump "$out/rpmdb.berkeley" >"$work/records"
    db5.3_load -c db_lorder=4321 -c db_pagesize=32768 -c h_ffactor=1 -c h_nelem=8 "$out/rpmdb.big-endian" <"$work/records"
fi
