//! What differs between processors when stacks are unwound.

use crate::arch::Registers;

#[cfg(target_arch = "x86_64")]
pub use framehop::x86_64::{
    CacheX86_64 as Cache, UnwindRegsX86_64 as UnwindRegs, UnwinderX86_64 as Unwinder,
};

#[cfg(target_arch = "aarch64")]
pub use framehop::aarch64::{
    CacheAarch64 as Cache, UnwindRegsAarch64 as UnwindRegs, UnwinderAarch64 as Unwinder,
};

#[cfg(target_arch = "x86_64")]
pub fn unwind_regs(registers: &Registers) -> UnwindRegs {
    UnwindRegs::new(registers.ip, registers.sp, registers.fp)
}

#[cfg(target_arch = "x86_64")]
pub fn frame_pointer(registers: &UnwindRegs) -> u64 {
    registers.bp()
}

/// The return address in a word of the stack.
#[cfg(target_arch = "x86_64")]
pub fn return_address(word: u64) -> u64 {
    word
}

/// The address bits of a pointer to code. Pointer authentication signs return addresses in the
/// bits above the 48 of user space.
#[cfg(target_arch = "aarch64")]
const ADDRESS: u64 = (1 << 48) - 1;

#[cfg(target_arch = "aarch64")]
pub fn unwind_regs(registers: &Registers) -> UnwindRegs {
    let mask = framehop::aarch64::PtrAuthMask::from_max_known_address(ADDRESS);
    UnwindRegs::new_with_ptr_auth_mask(mask, registers.lr, registers.sp, registers.fp)
}

#[cfg(target_arch = "aarch64")]
pub fn frame_pointer(registers: &UnwindRegs) -> u64 {
    registers.fp()
}

#[cfg(target_arch = "aarch64")]
pub fn return_address(word: u64) -> u64 {
    word & ADDRESS
}
