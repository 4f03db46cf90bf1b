//! The seccomp filter: which system calls of the app are reported to the supervisor. All others are allowed here and
//! cost nothing but the few instructions of this program.
//!
//! Pure: numbers in, a program out.

use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};

/// `AUDIT_ARCH_*` of `linux/audit.h`: calls of a foreign architecture (32-bit programs) have other numbers and are allowed.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the numbers of the filter are known for x86_64 and aarch64 alone: add ARCHITECTURE and test the swap there");

/// Calls of the x32 ABI share x86_64's architecture and have this bit in their number.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`; of an argument the low half, which comes first on both architectures.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
const fn jump(test: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | test | BPF_K) as u16, jt, jf, k }
}
const fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}
const ALLOW: sock_filter = statement(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW);
const REPORT: sock_filter = statement(BPF_RET | BPF_K, libc::SECCOMP_RET_USER_NOTIF);

/// The program. `unix`: a unix address is declared, so removals of files are reported too.
pub fn program(unix: bool) -> Vec<sock_filter> {
    let mut program = vec![load(ARCH), jump(BPF_JEQ, ARCHITECTURE, 1, 0), ALLOW, load(NUMBER)];
    #[cfg(target_arch = "x86_64")]
    program.extend([jump(BPF_JGE, X32_BIT, 0, 1), ALLOW]);
    let mut reported = vec![libc::SYS_bind, libc::SYS_listen];
    if unix {
        #[cfg(target_arch = "x86_64")]
        reported.push(libc::SYS_unlink);
        reported.push(libc::SYS_unlinkat);
    }
    for number in reported {
        program.extend([jump(BPF_JEQ, number as u32, 0, 1), REPORT]);
    }
    // A second listener is refused by the kernel (EBUSY); it is reported only so that the reason can be said.
    program.extend([jump(BPF_JEQ, libc::SYS_seccomp as u32, 1, 0), ALLOW]);
    program.extend([load(argument(0)), jump(BPF_JEQ, libc::SECCOMP_SET_MODE_FILTER, 1, 0), ALLOW]);
    program.extend([load(argument(1)), jump(BPF_JSET, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32, 0, 1), REPORT, ALLOW]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would; only the instructions that are used.
    fn run(program: &[sock_filter], arch: u32, number: i64, arguments: [u64; 2]) -> u32 {
        let mut data = [0_u8; 64];
        data[..4].copy_from_slice(&(number as u32).to_ne_bytes());
        data[4..8].copy_from_slice(&arch.to_ne_bytes());
        data[16..24].copy_from_slice(&arguments[0].to_ne_bytes());
        data[24..32].copy_from_slice(&arguments[1].to_ne_bytes());
        let (mut at, mut a) = (0, 0_u32);
        loop {
            let op = program[at];
            let (code, k) = (u32::from(op.code), op.k);
            at += 1;
            let test = match code & !BPF_JMP {
                _ if code == BPF_LD | BPF_W | BPF_ABS => {
                    a = u32::from_ne_bytes(data[k as usize..k as usize + 4].try_into().unwrap());
                    continue;
                }
                _ if code == BPF_RET | BPF_K => return k,
                BPF_JEQ => a == k,
                BPF_JGE => a >= k,
                BPF_JSET => a & k != 0,
                other => panic!("instruction {other:#x}"),
            };
            at += usize::from(if test { op.jt } else { op.jf });
        }
    }

    #[test]
    fn what_is_reported_and_what_is_not() {
        let (plain, unix) = (program(false), program(true));
        let report =
            |program: &[sock_filter], number, arguments| run(program, ARCHITECTURE, number, arguments) == libc::SECCOMP_RET_USER_NOTIF;
        for number in [libc::SYS_bind, libc::SYS_listen] {
            assert!(report(&plain, number, [3, 0]) && report(&unix, number, [3, 0]));
            assert!(run(&plain, 0x4000_0003, number, [3, 0]) == libc::SECCOMP_RET_ALLOW, "a 32-bit program's");
        }
        assert!(!report(&plain, libc::SYS_unlinkat, [0, 0]) && report(&unix, libc::SYS_unlinkat, [0, 0]));
        for number in [libc::SYS_read, libc::SYS_accept4, libc::SYS_connect, libc::SYS_socket, libc::SYS_close] {
            assert!(!report(&unix, number, [1, 8]), "{number}");
        }
        #[cfg(target_arch = "x86_64")]
        assert!(!report(&plain, libc::SYS_bind | i64::from(X32_BIT), [3, 0]));
        // seccomp: only a filter with a listener.
        assert!(report(&plain, libc::SYS_seccomp, [1, 8]) && report(&plain, libc::SYS_seccomp, [1, 8 | 1]));
        assert!(!report(&plain, libc::SYS_seccomp, [1, 1]) && !report(&plain, libc::SYS_seccomp, [2, 8]));
    }
}
