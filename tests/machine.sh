#!/bin/bash
# Makes, once, what the QEMU machine of `make proof` boots: a kernel, an initramfs and the root of a Debian 12, in the cache
# of the user and outside the repository, and prints the directory with `kernel`, `initramfs` and `root.ext4`. Needs root; the
# first time the network, too, and about a minute.
set -euo pipefail
cd "$(dirname "$0")"

suite=bookworm
packages=systemd,systemd-sysv,dbus,polkitd,libnss-systemd,libpam-systemd,nodejs,python3,procps,iproute2,curl,util-linux
# What the kernel has as modules and the root lies on, and the port of the agent, in the order of their needs.
modules="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk virtio_console"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/project-cluster
# All that the files are made of is part of their name: another list or another agent is another machine.
machine=$cache/machine-$(cat machine.sh machine/* | cksum | cut -d' ' -f1)

if [ "$(uname -m)" != x86_64 ]; then
    echo "machine: the QEMU machine is one of x86-64, and this one is not: leave out \`make machine-tests\`" >&2
    exit 1
fi
missing=()
need() { # PACKAGE, then a command that succeeds where it is there
    local package=$1
    shift
    "$@" > /dev/null 2>&1 || missing+=("$package")
}
need qemu-system-x86 command -v qemu-system-x86_64
if [ ! -d "$machine" ]; then
    need mmdebstrap command -v mmdebstrap
    need e2fsprogs test -x /usr/sbin/mke2fs
    need busybox-static bash -c 'command -v busybox && ! ldd "$(command -v busybox)"'
    need cpio command -v cpio
fi
if [ "${#missing[@]}" -gt 0 ]; then
    if ! command -v apt-get > /dev/null; then
        echo "machine: missing: what these Debian packages hold: ${missing[*]}; install it, then run make again" >&2
        exit 1
    fi
    echo "machine: missing: ${missing[*]}; installing with apt-get" >&2
    export DEBIAN_FRONTEND=noninteractive
    install=(apt-get install -y --no-install-recommends "${missing[@]}")
    { "${install[@]}" || { apt-get update && "${install[@]}"; }; } >&2
fi

if [ ! -d "$machine" ]; then
    mkdir -p "$cache"
    exec 9> "$cache/lock"
    flock 9
fi
if [ ! -d "$machine" ]; then
    echo "machine: making $machine" >&2
    new=$machine.new
    rm -rf "$new"
    mkdir -p "$new"
    # The kernel comes from the same suite, whatever this machine runs; it stays outside the root, which needs none.
    # shellcheck disable=SC2016
    fetch='cd "$1/tmp" && chroot "$1" sh -euc "cd /tmp; apt-get download -q \$(apt-cache depends linux-image-cloud-amd64 | sed -n \"s/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p\")"'
    mmdebstrap --quiet --variant=minbase --include="$packages" --customize-hook="$fetch" \
        --customize-hook="copy-out /tmp $new" "$suite" "$new/root" >&2
    rm -rf "$new"/root/tmp/*
    dpkg-deb -x "$new"/tmp/linux-image-*.deb "$new/linux"
    cp "$new"/linux/boot/vmlinuz-* "$new/kernel"

    mkdir -p "$new/initramfs.d/modules" "$new/initramfs.d/dev" "$new/initramfs.d/root"
    cp "$(command -v busybox)" "$new/initramfs.d/busybox"
    for module in $modules; do
        find "$new/linux/lib/modules" -name "$module.ko" -exec cp {} "$new/initramfs.d/modules/" \; -quit
        echo "/busybox insmod /modules/$module.ko" >> "$new/insmod"
    done
    {
        echo '#!/busybox sh'
        cat "$new/insmod"
        echo '/busybox mount -t devtmpfs devtmpfs /dev'
        echo '/busybox mount -t ext4 /dev/vda /root'
        echo 'exec /busybox switch_root /root /sbin/init'
    } > "$new/initramfs.d/init"
    chmod 0755 "$new/initramfs.d/init"
    (cd "$new/initramfs.d" && find . | cpio --quiet -o -H newc) | gzip -1 > "$new/initramfs"

    root=$new/root
    : > "$root/etc/machine-id"
    echo machine > "$root/etc/hostname"
    printf '127.0.0.1 localhost machine\n::1 localhost machine\n' > "$root/etc/hosts"
    echo '/dev/vda / ext4 defaults 0 0' > "$root/etc/fstab"
    : > "$root/etc/resolv.conf"
    mkdir -p "$root/var/log/journal" "$root/srv/apps" "$root/usr/local/lib/machine"
    cp machine/agent.py "$root/usr/local/lib/machine/"
    cp machine/machine-agent.service "$root/etc/systemd/system/"
    systemctl --quiet --root="$root" enable machine-agent.service
    # Nobody sits at the console, and what Debian does once a day is not to be done when a test moves the clock.
    systemctl --quiet --root="$root" mask getty.target console-getty.service serial-getty@ttyS0.service apt-daily.timer \
        apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer systemd-tmpfiles-clean.timer
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/*
    /usr/sbin/mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" "$new/root.ext4" 1536M >&2

    rm -rf "$new/root" "$new/tmp" "$new/linux" "$new/initramfs.d" "$new/insmod"
    mv -T "$new" "$machine"
fi
echo "$machine"
