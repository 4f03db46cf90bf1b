//! What only the start needed is given back to the kernel.
//!
//! The master is one of the first processes on a machine and then does little for months. Its start goes through code that
//! nothing needs later, and leaves holes in the heap. Once, before it says that it is up, the program's own pages are let go of,
//! so that of the file only what is used from then on is mapped, and free memory is returned. What is needed again comes from
//! the page cache, a microsecond a fault.

/// Gives it back. It may be called at any time.
pub(super) fn give_back() {
    // SAFETY: the linker's own symbols, of which only the addresses are taken.
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    let (begin, end) = (&raw const __executable_start as usize, &raw const etext as usize);
    // SAFETY: sysconf has no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let (first, last) = (begin.next_multiple_of(page), end - end % page);
    if first < last {
        // SAFETY: constants and code, private and never written to, so what lies in the file is what comes back.
        unsafe { libc::madvise(std::ptr::without_provenance_mut(first), last - first, libc::MADV_DONTNEED) };
    }
    trim();
}

/// Returns free memory to the kernel: a start of a whole cluster, or a crowd of clients, leaves holes.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}
