#!/bin/sh
# Makes rpmdb.sqlite.xz and rpmdb.expected with real rpm tools (rpm >= 4.16; Debian: apt-get install rpm).
# Usage: sh make_rpmdb.sh    in this folder. The packages are empty but for one file list; nothing is installed.
set -eu
here=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build() { # name version release epoch arch file
    {
        printf 'Name: %s\nVersion: %s\nRelease: %s\nSummary: test\nLicense: Apache-2.0\n' "$1" "$2" "$3"
        if [ -n "$4" ]; then printf 'Epoch: %s\n' "$4"; fi
        if [ "$5" = noarch ]; then printf 'BuildArch: noarch\n'; fi
        printf '%%description\ntest\n%%install\nmkdir -p %%{buildroot}/usr/bin\n'
        if [ -n "$6" ]; then printf 'echo x >%%{buildroot}%s\n' "$6"; fi
        printf '%%files\n'
        if [ -n "$6" ]; then printf '%s\n' "$6"; fi
    } >"$work/$1.spec"
    rpmbuild --quiet --define "_topdir $work" --target "$5" -bb "$work/$1.spec"
}
build bash 5.2.26 3.el9 '' x86_64 /usr/bin/bash
build openssl-libs 3.0.7 27.el9 1 x86_64 ''
build openssl-libs 3.0.7 27.el9 1 i686 ''
build tzdata 2024a 1.el9 '' noarch ''
build kernel-core 5.14.0 427.el9 '' x86_64 ''
build kernel-core 5.14.0 503.el9 '' x86_64 ''
build git-core 2.43.5 1.el9 '' x86_64 /usr/bin/git
mkdir "$work/db"
rpmdb --dbpath "$work/db" --initdb
rpm --dbpath "$work/db" -i --justdb --nodeps --noscripts --ignorearch --oldpackage --force "$work"/RPMS/*/*.rpm
rpm --dbpath "$work/db" -qa --qf '%{NAME} %{EVR} %{ARCH}\n' | sort >"$here/rpmdb.expected"
xz -9e <"$work/db/rpmdb.sqlite" >"$here/rpmdb.sqlite.xz"
ls -la "$work/db"
