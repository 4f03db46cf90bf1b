# What holds a sandbox, in three stages of one script, each started by the one before.
#
# outer: in a mount namespace of its own. Makes the sandbox's control group, waits for the rest to
#        end, removes the group. It leads a session of its own, so Ctrl-C does not reach it.
# enter: process 1 of a new PID namespace. Moves itself into the control group.
# inner: the same process, now also in its own cgroup and mount namespaces. Builds the throw-away
#        root and boots systemd-nspawn in it each time it reads "boot".
#
# Standard input is a pipe that only the test process holds. However that one ends, the pipe ends,
# inner exits, and the kernel kills everything in its PID namespace; the mounts go with the last
# process in their namespace. Nothing here needs to run for that except outer's removal of the group.
#
# From the environment: SANDBOX_SCRIPT (this text), SANDBOX_NAME (project-cluster-test-PID-NUMBER, PID
# that of the test process), SANDBOX_LOWER (the root that the throw-away one is laid over), SANDBOX_APPS
# (directory copied to /srv/apps, or empty), SANDBOX_BARE (not empty: the lower root is a bare distribution
# made for this, and is seen as it is, with the /var of its package manager).
set -eu
groups=/sys/fs/cgroup
base=/run/sandbox

case $1 in
outer)
    mount -t cgroup2 cgroup2 $groups
    # Groups of test processes that were killed together with their outer.
    for old in $groups/project-cluster-test-*; do
        [ -d "$old" ] || continue
        owner=${old##*-test-}
        [ -d "/proc/${owner%%-*}" ] || find "$old" -depth -type d -exec rmdir {} + 2>/dev/null || :
    done
    mkdir "$groups/$SANDBOX_NAME"
    unshare --pid --fork --kill-child sh -c 'eval "$SANDBOX_SCRIPT"' holder enter || :
    find "$groups/$SANDBOX_NAME" -depth -type d -exec rmdir {} +
    exit 0
    ;;
enter)
    echo 0 > "$groups/$SANDBOX_NAME/cgroup.procs"
    exec unshare --mount --cgroup sh -c 'eval "$SANDBOX_SCRIPT"' holder inner
    ;;
esac

umount $groups
mount -t cgroup2 cgroup2 $groups
mount -t proc proc /proc
# Over /run, so that what nspawn leaves there (locks, propagation directories) is gone with us.
mount -t tmpfs -o mode=0755 sandbox /run
mkdir -p $base/lower $base/upper $base/work $base/root
mount --bind "$SANDBOX_LOWER" $base/lower
mount -o remount,bind,ro $base/lower

# A character device 0:0 in the upper directory hides what the lower one has under that name. A
# directory made over it afterwards begins empty.
hide() {
    for path in "$@"; do
        if [ -e "$base/lower/$path" ] || [ -L "$base/lower/$path" ]; then
            case $path in */*) mkdir -p "$base/upper/${path%/*}" ;; esac
            mknod "$base/upper/$path" c 0 0
        fi
    done
}
hide_the_machine() {
    # Of the top level only programs, libraries and their settings are seen; the rest (homes, data,
    # /var with its journals and remains) is the machine's own.
    for path in "$base"/lower/* "$base"/lower/.[!.]*; do
        case ${path##*/} in
        usr | bin | sbin | lib | lib32 | lib64 | libx32 | libo32 | etc | opt) ;;
        *) hide "${path##*/}" ;;
        esac
    done
    # What systemd, udev, D-Bus activation, polkit and the C library read of the machine's own settings.
    hide etc/systemd etc/polkit-1 etc/sysusers.d etc/tmpfiles.d etc/modules-load.d etc/modprobe.d etc/binfmt.d \
        etc/sysctl.d etc/sysctl.conf etc/udev etc/init.d etc/rc0.d etc/rc1.d etc/rc2.d etc/rc3.d etc/rc4.d etc/rc5.d \
        etc/rc6.d etc/rcS.d etc/rc.local etc/environment etc/environment.d etc/fstab etc/crypttab etc/ld.so.preload \
        etc/machine-id etc/hostname etc/hosts etc/resolv.conf etc/nsswitch.conf etc/mtab etc/subuid etc/subgid \
        usr/local/lib/systemd usr/local/share/dbus-1 usr/local/share/polkit-1 usr/local/lib/sysusers.d usr/local/lib/tmpfiles.d
    # Remains of an installed project-cluster, whatever put them there.
    for path in "$base"/lower/etc/project-cluster* "$base"/lower/usr/lib/systemd/*/*project-cluster* \
        "$base"/lower/usr/lib/sysusers.d/*project-cluster* "$base"/lower/usr/lib/tmpfiles.d/*project-cluster* \
        "$base"/lower/usr/share/polkit-1/rules.d/*project-cluster* "$base"/lower/usr/share/project-cluster \
        "$base"/lower/usr/bin/project-cluster "$base"/lower/usr/local/bin/project-cluster; do
        hide "${path#"$base"/lower/}"
    done
}
[ -n "${SANDBOX_BARE-}" ] || hide_the_machine

mount -t overlay overlay -o "lowerdir=$base/lower,upperdir=$base/upper,workdir=$base/work" $base/root
cd $base/root
chmod 0755 .
umask 022
mkdir -p dev proc sys run var/log/journal srv/apps home mnt etc/systemd/system etc/polkit-1/rules.d
mkdir -p -m 1777 tmp
mkdir -p -m 0700 root
tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
echo sandbox > etc/hostname
printf '127.0.0.1 localhost sandbox\n::1 localhost sandbox\n' > etc/hosts
printf 'passwd: files systemd\ngroup: files systemd\nshadow: files\nhosts: files\n' > etc/nsswitch.conf
: > etc/fstab
: > etc/resolv.conf
# Accounts of an installed project-cluster.
for file in passwd group shadow gshadow; do
    if grep -qs ^project-cluster etc/$file; then
        grep -v ^project-cluster etc/$file > etc/$file.new || :
        cat etc/$file.new > etc/$file
        rm etc/$file.new
    fi
done
# Nobody sits at the console.
ln -sf /dev/null etc/systemd/system/console-getty.service
ln -sf /dev/null etc/systemd/system/getty.target
if [ -n "${SANDBOX_APPS-}" ]; then
    cp -R "$SANDBOX_APPS/." srv/apps
    chmod -R u=rwX,go=rX srv/apps
fi
cd /

echo ready
keep=
while read -r word arguments; do
    case $word in
    boot)
        (
            code=0
            # Arguments hold no blanks: the test library refuses such paths.
            # shellcheck disable=SC2086
            systemd-nspawn --quiet --settings=no --keep-unit --register=no --directory=$base/root --boot \
                --console=read-only --private-network --timezone=off --resolv-conf=off --link-journal=no \
                --notify-ready=yes --system-call-filter=pidfd_getfd $arguments < /dev/null >> $base/console 2>&1 || code=$?
            echo "ended $code"
        ) &
        ;;
    keep) keep=yes ;;
    esac
done
[ -z "$keep" ] || exec sleep infinity
