//! The process of a machine: QEMU with its disk, its console and its port. Nothing of it has a name in the file system, so
//! nothing is left, and the kernel kills it when this process ends, however that happens.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::channel::Channel;
use super::process::PidFd;

/// Megabytes that a machine has.
const MEMORY: &str = "512";

/// A booting or booted machine.
pub struct Qemu {
    child: Child,
    pidfd: PidFd,
    /// The way in.
    pub channel: Channel,
}

impl Qemu {
    /// Switches it on. `files` is what `tests/machine.sh` made, `disk` an [`overlay`] of its root.
    pub fn start(files: &Path, disk: &File, console: &File) -> io::Result<Self> {
        let (ours, port) = UnixStream::pair()?;
        let base = format!("driver=file,node-name=file,read-only=on,filename={}", files.join("root.ext4").display());
        let mut command = Command::new("qemu-system-x86_64");
        command
            // Plain translation: where /dev/kvm is, it may be a virtual one that hangs.
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY])
            .args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(files.join("kernel"))
            .arg("-initrd")
            .arg(files.join("initramfs"))
            // Where the machine gets no processor for a while its kernel would take the timer for a broken one, and panic.
            .args(["-append", "console=ttyS0 quiet panic=1 rw mitigations=off no_timer_check"])
            .args(["-add-fd", &format!("fd={},set=1", disk.as_raw_fd())])
            .args(["-blockdev", &base, "-blockdev", "driver=raw,node-name=base,read-only=on,file=file"])
            .args(["-blockdev", "driver=file,node-name=changes,filename=/dev/fdset/1,locking=off"])
            .args(["-blockdev", "driver=qcow2,node-name=root,file=changes,backing=base"])
            .args(["-device", "virtio-blk-pci,drive=root"])
            .args(["-chardev", &format!("socket,id=agent,fd={}", port.as_raw_fd())])
            .args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=agent"])
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console.try_clone()?);
        let (parent, inherited) = (std::process::id(), [disk.as_raw_fd(), port.as_raw_fd()]);
        let prepare = move || {
            // SAFETY: system calls with integers; async-signal-safe, as needed after fork.
            unsafe {
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
                // It may have ended before it could be asked for.
                if libc::getppid().cast_unsigned() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                for fd in inherited {
                    check(libc::fcntl(fd, libc::F_SETFD, 0))?;
                }
            }
            Ok(())
        };
        // SAFETY: the closure makes system calls only and allocates nothing.
        unsafe { command.pre_exec(prepare) };
        let child =
            command.spawn().map_err(|error| io::Error::other(format!("qemu-system-x86_64: {error}; tests/machine.sh installs it")))?;
        let pidfd = PidFd::open(i32::try_from(child.id()).map_err(io::Error::other)?)?;
        Ok(Self { child, pidfd, channel: Channel::new(ours)? })
    }

    /// Whether it went off within the limit.
    pub fn ended_within(&self, limit: Duration) -> bool {
        self.pidfd.ended_within(limit)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Fails when it was reaped before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A file in memory without a name.
pub fn nameless(name: &CStr) -> io::Result<File> {
    // SAFETY: a constant string and an integer.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    check(fd)?;
    // SAFETY: the kernel has just given us this descriptor and nobody else has it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// A disk of this many bytes, all of which are those of the disk behind it until the machine writes them: an empty qcow2, as
/// the QEMU project's docs/interop/qcow2.rst describes it, version 3. Here rather than by `qemu-img`, which cannot make one
/// that has no name.
pub fn overlay(bytes: u64) -> io::Result<File> {
    const CLUSTER: u64 = 1 << 16;
    // A cluster of 8-byte entries: each stands for a cluster of the disk.
    const COVERED_BY_L2: u64 = CLUSTER / 8 * CLUSTER;
    let [refcounts, block, l1] = [CLUSTER, 2 * CLUSTER, 3 * CLUSTER];
    let l1_entries = u32::try_from(bytes.div_ceil(COVERED_BY_L2)).map_err(io::Error::other)?;
    let mut head = Vec::new();
    head.extend(b"QFI\xfb");
    head.extend(3_u32.to_be_bytes());
    // The backing file's name, its place and length: it is given on the command line.
    head.extend([0; 12]);
    head.extend(16_u32.to_be_bytes());
    head.extend(bytes.to_be_bytes());
    // No encryption.
    head.extend(0_u32.to_be_bytes());
    head.extend(l1_entries.to_be_bytes());
    head.extend(l1.to_be_bytes());
    head.extend(refcounts.to_be_bytes());
    head.extend(1_u32.to_be_bytes());
    // No snapshots, no features.
    head.extend([0; 4 + 8 + 3 * 8]);
    // 16 bits a reference count; the header's own length.
    head.extend(4_u32.to_be_bytes());
    head.extend(104_u32.to_be_bytes());
    let file = nameless(c"machine-disk")?;
    file.set_len(4 * CLUSTER)?;
    file.write_all_at(&head, 0)?;
    file.write_all_at(&block.to_be_bytes(), refcounts)?;
    // The four clusters so far have one user each.
    file.write_all_at(&[0, 1, 0, 1, 0, 1, 0, 1], block)?;
    Ok(file)
}
