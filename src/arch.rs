//! Everything on the Rust side that depends on the processor: ELF machine numbers, where the
//! thread-local block of an executable lies relative to the thread pointer, and the thread pointer
//! itself. The C counterpart is `src/bpf/arch.bpf.h`. The arithmetic for every processor is compiled
//! and tested on all of them; only code that runs natively is behind `cfg`.

use object::elf::{EM_AARCH64, EM_X86_64};

/// A processor that hud supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    Aarch64,
}

/// The executable's `PT_TLS` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsSegment {
    /// `p_vaddr`.
    pub address: u64,
    /// `p_memsz`, bytes.
    pub size: u64,
    /// `p_align`, bytes; 0 and 1 mean none.
    pub align: u64,
}

impl Machine {
    /// The processor hud was built for: the only one whose processes it can watch.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Machine = Machine::X86_64;
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Machine = Machine::Aarch64;

    /// Whether a CPU's stores become visible to other CPUs in program order.
    pub fn keeps_store_order(self) -> bool {
        self == Machine::X86_64
    }

    /// The processor of an ELF file, from `e_machine`; None if hud does not support it.
    pub fn from_elf(e_machine: u16) -> Option<Machine> {
        match object::elf::Machine(e_machine) {
            EM_X86_64 => Some(Machine::X86_64),
            EM_AARCH64 => Some(Machine::Aarch64),
            _ => None,
        }
    }

    /// Offset in bytes from the thread pointer to a thread-local variable of the *executable*.
    ///
    /// `value` is the symbol's `st_value`, an offset in the TLS segment. None when the segment's
    /// numbers are inconsistent. Thread-locals of shared libraries are reached through the DTV and
    /// are not covered.
    pub fn thread_local(self, value: u64, segment: TlsSegment) -> Option<i64> {
        let align = segment.align.max(1);
        if !align.is_power_of_two() || value > segment.size {
            return None;
        }
        let start = match self {
            Machine::X86_64 => x86_64::block_start(segment, align)?,
            Machine::Aarch64 => aarch64::block_start(segment, align)?,
        };
        start.checked_add(i64::try_from(value).ok()?)
    }
}

/// TLS variant II: the block ends at the thread pointer.
mod x86_64 {
    use super::TlsSegment;

    pub(super) fn block_start(segment: TlsSegment, align: u64) -> Option<i64> {
        // The thread pointer is aligned; the block keeps the misalignment of `p_vaddr`.
        let end = segment.address.checked_add(segment.size)?;
        let padding = end.wrapping_neg() & (align - 1);
        i64::try_from(segment.size.checked_add(padding)?)
            .ok()?
            .checked_neg()
    }

    /// The thread pointer of the calling thread.
    #[cfg(target_arch = "x86_64")]
    pub fn thread_pointer() -> u64 {
        let tp: u64;
        // SAFETY: the x86-64 TLS ABI keeps the thread pointer itself at fs:0.
        unsafe {
            std::arch::asm!("mov {}, fs:0", out(reg) tp, options(nostack, readonly, preserves_flags));
        }
        tp
    }
}

/// TLS variant I: the block follows the thread pointer's two reserved words.
mod aarch64 {
    use super::TlsSegment;

    /// Size of the thread control block between the thread pointer and the TLS block, bytes.
    const RESERVED: u64 = 16;

    pub(super) fn block_start(segment: TlsSegment, align: u64) -> Option<i64> {
        let padding = segment.address.wrapping_sub(RESERVED) & (align - 1);
        i64::try_from(RESERVED.checked_add(padding)?).ok()
    }

    /// The thread pointer of the calling thread.
    #[cfg(target_arch = "aarch64")]
    pub fn thread_pointer() -> u64 {
        let tp: u64;
        // SAFETY: reading tpidr_el0 is allowed in user mode and touches nothing.
        unsafe {
            std::arch::asm!("mrs {}, tpidr_el0", out(reg) tp, options(nomem, nostack, preserves_flags));
        }
        tp
    }
}

/// The user-mode registers of a thread that unwinding starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer: `rbp`, `x29`.
    pub fp: u64,
    /// Link register, `x30`; 0 on x86-64, which has none.
    pub lr: u64,
}

/// Whether the call instruction pushes the return address, so that it lies right below the caller's
/// frame. On other processors the callee saves it at a place of its own, or not at all, and a word
/// found on the stack may be left over from a call that has returned.
pub const CALLS_PUSH_RETURNS: bool = cfg!(target_arch = "x86_64");

/// Whether a thread blocked in this system call waits in epoll.
pub fn is_epoll(syscall: i64) -> bool {
    #[cfg(target_arch = "x86_64")]
    let oldest = libc::SYS_epoll_wait;
    #[cfg(target_arch = "aarch64")]
    let oldest = libc::SYS_epoll_pwait;
    [oldest, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2].contains(&syscall)
}

/// Whether a thread blocked in this system call waits in poll.
pub fn is_poll(syscall: i64) -> bool {
    #[cfg(target_arch = "x86_64")]
    let oldest = libc::SYS_poll;
    #[cfg(target_arch = "aarch64")]
    let oldest = libc::SYS_ppoll;
    [oldest, libc::SYS_ppoll].contains(&syscall)
}

#[cfg(target_arch = "aarch64")]
pub use aarch64::thread_pointer;
#[cfg(target_arch = "x86_64")]
pub use x86_64::thread_pointer;

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(address: u64, size: u64, align: u64) -> TlsSegment {
        TlsSegment {
            address,
            size,
            align,
        }
    }

    #[test]
    fn x86_64_blocks_end_at_the_thread_pointer() {
        let m = Machine::X86_64;
        assert_eq!(m.thread_local(0, segment(0xb1580, 0x108, 8)), Some(-0x108));
        assert_eq!(m.thread_local(8, segment(0x1000, 0x101, 64)), Some(-0x138));
        // A segment that starts 8 bytes past its alignment keeps that misalignment.
        assert_eq!(m.thread_local(0, segment(0x1008, 0x10, 64)), Some(-0x38));
    }

    #[test]
    fn aarch64_blocks_follow_the_reserved_words() {
        let m = Machine::Aarch64;
        assert_eq!(m.thread_local(8, segment(0x1000, 0x100, 8)), Some(24));
        assert_eq!(m.thread_local(0, segment(0x1000, 0x100, 64)), Some(64));
    }

    #[test]
    fn nonsense_segments_are_refused() {
        assert_eq!(
            Machine::X86_64.thread_local(0, segment(0, 16, 24)),
            None,
            "alignment that is no power of two"
        );
        assert_eq!(
            Machine::X86_64.thread_local(17, segment(0, 16, 8)),
            None,
            "a symbol outside the segment"
        );
        assert_eq!(
            Machine::X86_64.thread_local(0, segment(8, u64::MAX, 8)),
            None
        );
    }

    #[test]
    fn the_thread_pointer_differs_between_threads() {
        let here = thread_pointer();
        let there = std::thread::spawn(thread_pointer).join().unwrap();
        assert!(here != 0 && there != 0 && here != there);
    }
}
