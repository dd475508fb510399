//! From a thread's registers and a copy of its stack to the addresses of its frames.
//!
//! Ordinary release binaries have no frame pointers, so frames are found through the unwind tables
//! (`.eh_frame`) that every Rust program carries for panics. Works on the copied bytes alone: the
//! thread has long moved on. Registers and bytes come from another process and may be torn or
//! hostile; a stack that makes no sense gives a short result, never a panic or a loop.

use std::sync::Arc;

use framehop::{ExplicitModuleSectionInfo, FrameAddress, Unwinder as _};

use crate::capture::SavedRegisters;
use crate::target::elf;
use crate::target::modules::{Module, ModuleMap};

/// Deeper stacks are cut: recursion that deep is shown well enough by its leaf.
const MAX_FRAMES: usize = 512;

/// How far below a caller's frame its return address is looked for, in words.
const MAX_SAVED: usize = 64;

/// The kernel maps nothing below this address, so no stack is there.
const LOWEST_STACK: u64 = 4096;

/// What differs between architectures, all in one place.
mod native {
    use super::Registers;

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

    #[cfg(target_arch = "aarch64")]
    pub fn unwind_regs(registers: &Registers) -> UnwindRegs {
        // Pointer authentication signs return addresses in the bits above the 48 of user space.
        let mask = framehop::aarch64::PtrAuthMask::from_max_known_address((1 << 48) - 1);
        UnwindRegs::new_with_ptr_auth_mask(mask, registers.lr, registers.sp, registers.fp)
    }
}

/// The registers that unwinding starts from.
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

impl From<&SavedRegisters> for Registers {
    fn from(saved: &SavedRegisters) -> Self {
        Registers {
            ip: saved.ip,
            sp: saved.sp,
            fp: saved.fp,
            lr: saved.lr,
        }
    }
}

/// A thread's user-mode registers and the bytes of its stack.
#[derive(Clone, Copy, Debug)]
pub struct CapturedStack<'a> {
    pub registers: Registers,
    /// The address `bytes[0]` was at.
    pub base: u64,
    pub bytes: &'a [u8],
}

impl CapturedStack<'_> {
    fn read_u64(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(8)?)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }
}

/// The frames of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unwound {
    /// Leaf first. For callers an address inside the call instruction, not the one after it: it is
    /// the right one to look up.
    pub addresses: Vec<u64>,
    /// Whether the thread's start was reached.
    pub complete: bool,
}

/// One frame of a stack, with what tells it from frames of the same function elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// As in [`Unwound::addresses`].
    pub address: u64,
    /// Where the call that the frame is in returns to; 0 for the leaf.
    pub returns: u64,
    /// Where on the stack that return address lies; 0 for the leaf, or where it is kept in a
    /// register alone.
    pub place: u64,
}

/// Unwinds stacks of one process.
pub struct Unwinder {
    native: native::Unwinder<Vec<u8>>,
    cache: native::Cache,
    modules: Vec<Arc<Module>>,
    generation: Option<u64>,
}

impl Default for Unwinder {
    fn default() -> Self {
        Unwinder::new()
    }
}

impl Unwinder {
    /// An unwinder that knows no modules yet.
    pub fn new() -> Self {
        Unwinder {
            native: native::Unwinder::new(),
            cache: native::Cache::new(),
            modules: Vec::new(),
            generation: None,
        }
    }

    /// Takes over the process's modules. Costs nothing where they have not changed; otherwise reads
    /// the unwind tables of the new ones.
    pub fn set_modules(&mut self, map: &ModuleMap) {
        if self.generation == Some(map.generation()) {
            return;
        }
        self.generation = Some(map.generation());
        let has =
            |list: &[Arc<Module>], module| list.iter().any(|other| Arc::ptr_eq(other, module));
        for gone in &self.modules {
            if !has(map.modules(), gone)
                && let Some(first) = gone.ranges.first()
            {
                self.native.remove_module(first.start);
            }
        }
        for new in map.modules() {
            if !has(&self.modules, new)
                && let Some(module) = load(new)
            {
                self.native.add_module(module);
            }
        }
        self.modules = map.modules().to_vec();
    }

    /// The frames of a stack, up to the first one that cannot be left.
    pub fn unwind(&mut self, stack: &CapturedStack<'_>) -> Unwound {
        let mut unwound = Unwound::default();
        let ended = self.each_frame(stack, |frame, _| {
            unwound.addresses.push(frame.address_for_lookup());
        });
        // Outside all modules the end is only a zero that happened to be in the frame pointer.
        unwound.complete = ended && unwound.addresses.iter().all(|&address| self.knows(address));
        unwound
    }

    /// The same frames, with where on the stack their calls return to is kept.
    pub fn walk(&mut self, stack: &CapturedStack<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut below = stack.registers.sp;
        self.each_frame(stack, |frame, sp| {
            let mut step = Step {
                address: frame.address_for_lookup(),
                ..Step::default()
            };
            if let FrameAddress::ReturnAddress(returns) = frame {
                step.returns = returns.get();
                // x86-64 keeps it right below the caller's frame, other processors in the callee's.
                step.place = (below..sp)
                    .rev()
                    .filter(|place| place.is_multiple_of(8))
                    .take(MAX_SAVED)
                    .find(|place| stack.read_u64(*place) == Some(step.returns))
                    .unwrap_or(0);
            }
            below = sp;
            steps.push(step);
        });
        steps
    }

    /// Each frame, leaf first, with the stack pointer in it. Whether the outermost was reached.
    fn each_frame(
        &mut self,
        stack: &CapturedStack<'_>,
        mut take: impl FnMut(FrameAddress, u64),
    ) -> bool {
        if stack.registers.sp < LOWEST_STACK {
            return false;
        }
        let mut registers = native::unwind_regs(&stack.registers);
        let mut read = |address| stack.read_u64(address).ok_or(());
        let mut frame = FrameAddress::from_instruction_pointer(stack.registers.ip);
        for _ in 0..MAX_FRAMES {
            take(frame, registers.sp());
            let next = self
                .native
                .unwind_frame(frame, &mut registers, &mut self.cache, &mut read);
            match next.map(|next| next.map(FrameAddress::from_return_address)) {
                Ok(Some(Some(caller))) => frame = caller,
                Ok(None) => return true,
                Ok(Some(None)) | Err(_) => return false,
            }
        }
        false
    }

    fn knows(&self, address: u64) -> bool {
        self.modules
            .iter()
            .any(|module| module.ranges.iter().any(|range| range.contains(&address)))
    }
}

/// The module's unwind tables, for framehop.
fn load(module: &Module) -> Option<framehop::Module<Vec<u8>>> {
    let file = module.file.as_deref()?;
    let range = module.ranges.first()?.start..module.ranges.last()?.end;
    // framehop keeps addresses relative to the module in 32 bits.
    let base_svma = elf::code_segments(file)
        .iter()
        .map(|segment| segment.address)
        .min()?;
    let text = elf::section(file, ".text");
    let got = elf::section(file, ".got");
    let (eh_frame_hdr, eh_frame) = match elf::section(file, ".eh_frame") {
        Some(eh_frame) => (elf::section(file, ".eh_frame_hdr"), Some(eh_frame)),
        // A copy from memory has no sections.
        None => elf::unwind_tables(file).unzip(),
    };
    let debug_frame = match &eh_frame {
        Some(_) => None,
        None => elf::section(file, ".debug_frame"),
    };
    let bytes = |section: &Option<elf::Section>| section.as_ref()?.read(file);
    let addresses = |section: &Option<elf::Section>| Some(section.as_ref()?.addresses.clone());
    Some(framehop::Module::new(
        module.name.to_string(),
        range,
        base_svma.wrapping_add(module.bias),
        ExplicitModuleSectionInfo {
            base_svma,
            text_svma: addresses(&text),
            got_svma: addresses(&got),
            eh_frame_svma: addresses(&eh_frame),
            eh_frame: bytes(&eh_frame),
            eh_frame_hdr_svma: addresses(&eh_frame_hdr),
            eh_frame_hdr: bytes(&eh_frame_hdr),
            debug_frame: bytes(&debug_frame),
            ..Default::default()
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    thread_local! {
        static OWN: RefCell<(Unwinder, ModuleMap)> = RefCell::new(own());
    }

    fn own() -> (Unwinder, ModuleMap) {
        let map = ModuleMap::read(std::process::id()).unwrap();
        let mut unwinder = Unwinder::new();
        unwinder.set_modules(&map);
        (unwinder, map)
    }

    #[test]
    fn no_stack_gives_the_leaf_and_is_not_complete() {
        let (mut unwinder, _) = own();
        let here = own as *const () as u64;
        let registers = Registers {
            ip: here,
            sp: 0x7000_0000,
            ..Registers::default()
        };
        let stack = CapturedStack {
            registers,
            base: 0x7000_0000,
            bytes: &[],
        };
        let unwound = unwinder.unwind(&stack);
        assert_eq!(unwound.addresses, [here]);
        assert!(!unwound.complete);
    }

    #[test]
    fn a_zero_frame_pointer_outside_all_modules_is_not_the_threads_start() {
        let (mut unwinder, _) = own();
        let registers = Registers {
            ip: 0x1234,
            sp: 0x7000_0000,
            ..Registers::default()
        };
        let stack = CapturedStack {
            registers,
            base: 0x7000_0000,
            bytes: &[0; 64],
        };
        assert!(!unwinder.unwind(&stack).complete);
    }

    proptest! {
        #[test]
        fn garbage_is_survived(
            offset in 0u64..(1 << 20),
            sp in prop_oneof![0x7000_0000u64..0x7000_0400, any::<u64>()],
            fp in prop_oneof![0x7000_0000u64..0x7000_0400, any::<u64>()],
            lr in any::<u64>(),
            words in proptest::collection::vec(
                prop_oneof![any::<u64>(), 0u64..(1 << 20), 0x7000_0000u64..0x7000_0400],
                0..200,
            ),
        ) {
            OWN.with_borrow_mut(|(unwinder, map)| {
                // Small words become addresses of real code, so that real unwind rules run.
                let start = map.main().unwrap().ranges[0].start;
                let code = |word: u64| if word < 1 << 20 { start + word } else { word };
                let bytes: Vec<u8> =
                    words.iter().flat_map(|&word| code(word).to_ne_bytes()).collect();
                let registers = Registers { ip: start + offset, sp, fp, lr };
                let unwound = unwinder.unwind(&CapturedStack {
                    registers,
                    base: 0x7000_0000,
                    bytes: &bytes,
                });
                assert!(unwound.addresses.len() <= MAX_FRAMES);
            });
        }
    }
}
