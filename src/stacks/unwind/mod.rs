//! From a thread's registers and a copy of its stack to the addresses of its frames.
//!
//! Ordinary release binaries have no frame pointers, so callers are found through the unwind tables
//! (`.eh_frame`) that every Rust program carries for panics. Where these do not reach (musl's libc,
//! code generated at run time), the caller is guessed, and marked so. Works on the copied bytes alone,
//! since the thread has moved on. Registers and bytes come from another process and are untrusted: an
//! invalid stack gives a short result, never a panic or a loop.

mod guess;
mod native;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use framehop::{ExplicitModuleSectionInfo, FrameAddress, Unwinder as _};

use self::guess::{Caller, Evidence, Frame, Guess, MAX_FUNCTION};
use crate::target::call_sites::{Call, CallSites};
use crate::target::elf;
use crate::target::functions::UnwindTables;
use crate::target::modules::{Module, ModuleMap};

pub use crate::arch::Registers;

/// Deeper stacks are cut: the leaf shows recursion well enough.
const MAX_FRAMES: usize = 512;

/// How far below a caller's frame its return address is searched, in words.
const MAX_SAVED: usize = 64;

/// The kernel maps nothing below this address, so no stack is there.
const LOWEST_STACK: u64 = 4096;

/// A thread's user-mode registers and the bytes of its stack.
#[derive(Clone, Copy, Debug)]
pub struct CapturedStack<'a> {
    pub registers: Registers,
    /// The address of `bytes[0]`.
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
    /// Leaf first. For callers an address inside the call instruction, since the one after it may belong
    /// to another line or function.
    pub addresses: Vec<u64>,
    /// Ascending indices of the addresses that are guesses: no unwind table covers the callee.
    pub uncertain: Vec<usize>,
    /// Whether the thread's start was reached.
    pub complete: bool,
}

/// One frame of a stack, with the place of its return address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// As in [`Unwound::addresses`].
    pub address: u64,
    /// The return address of the call that the frame is in; 0 for the leaf.
    pub returns: u64,
    /// Address of that return address on the stack; 0 for the leaf, or if only a register holds it.
    pub place: u64,
}

/// The code around an address.
struct Code {
    /// The function begins there, or later where it is not covered.
    start: u64,
    /// The unwind tables cover the address.
    covered: bool,
    /// They cover other code of its module, or all of it.
    near_tables: bool,
}

/// A frame as it is reached.
struct Reached {
    address: FrameAddress,
    /// Stack pointer in it.
    sp: u64,
    /// Reached by a guess.
    uncertain: bool,
}

/// Unwinds stacks of one process.
pub struct Unwinder {
    native: native::Unwinder<Vec<u8>>,
    cache: native::Cache,
    modules: Vec<Arc<Module>>,
    sites: CallSites,
    generation: Option<u64>,
}

impl Default for Unwinder {
    fn default() -> Self {
        Unwinder::new()
    }
}

impl Unwinder {
    /// An unwinder without modules.
    pub fn new() -> Self {
        Unwinder {
            native: native::Unwinder::new(),
            cache: native::Cache::new(),
            modules: Vec::new(),
            sites: CallSites::default(),
            generation: None,
        }
    }

    /// Sets the process's modules. Reads the unwind tables of new ones; free if none changed.
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
        self.sites.set_modules(map);
    }

    /// The frames of a stack, up to the first one whose caller cannot be found.
    pub fn unwind(&mut self, stack: &CapturedStack<'_>) -> Unwound {
        let mut unwound = Unwound::default();
        let ended = self.each_frame(stack, |frame| {
            if frame.uncertain {
                unwound.uncertain.push(unwound.addresses.len());
            }
            unwound.addresses.push(frame.address.address_for_lookup());
        });
        // Outside of executable memory the end is only a frame pointer that happens to be zero.
        let is_code = |&address: &u64| self.sites.executable(address).is_some();
        unwound.complete = ended && unwound.addresses.iter().all(is_code);
        unwound
    }

    /// The same frames, with the places of their return addresses.
    pub fn walk(&mut self, stack: &CapturedStack<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut below = stack.registers.sp;
        self.each_frame(stack, |frame| {
            let mut step = Step {
                address: frame.address.address_for_lookup(),
                ..Step::default()
            };
            if let FrameAddress::ReturnAddress(returns) = frame.address {
                step.returns = returns.get();
                // Right below the caller's frame on x86-64, in the callee's frame elsewhere.
                step.place = (below..frame.sp)
                    .rev()
                    .filter(|place| place.is_multiple_of(8))
                    .take(MAX_SAVED)
                    .find(|place| stack.read_u64(*place) == Some(step.returns))
                    .unwrap_or(0);
            }
            below = frame.sp;
            steps.push(step);
        });
        steps
    }

    /// Each frame, leaf first. Whether the outermost was reached.
    fn each_frame(&mut self, stack: &CapturedStack<'_>, mut take: impl FnMut(Reached)) -> bool {
        if stack.registers.sp < LOWEST_STACK {
            return false;
        }
        let mut registers = native::unwind_regs(&stack.registers);
        let mut read = |address| stack.read_u64(address).ok_or(());
        let mut address = FrameAddress::from_instruction_pointer(stack.registers.ip);
        let mut uncertain = false;
        // After a guess registers may be wrong, so the callers that tables give are checked.
        let mut guessed = false;
        for _ in 0..MAX_FRAMES {
            let sp = registers.sp();
            take(Reached {
                address,
                sp,
                uncertain,
            });
            let code = self.code_around(address.address_for_lookup());
            if code.covered {
                let mut next = registers;
                let caller =
                    self.native
                        .unwind_frame(address, &mut next, &mut self.cache, &mut read);
                match caller.map(|caller| caller.map(FrameAddress::from_return_address)) {
                    Ok(Some(Some(caller))) if !guessed || self.is_behind_call(caller) => {
                        (address, registers, uncertain) = (caller, next, false);
                        continue;
                    }
                    Ok(None) => return true,
                    // The stack is torn; a guess would hide that.
                    _ if !guessed => return false,
                    _ => {}
                }
            }
            if self.sites.is_entry(address.address_for_lookup()) {
                return true;
            }
            let frame = Frame {
                registers: Registers {
                    ip: stack.registers.ip,
                    sp,
                    fp: native::frame_pointer(&registers),
                    lr: stack.registers.lr,
                },
                address: address.address_for_lookup(),
                start: code.start,
                is_leaf: !address.is_return_address(),
                near_tables: code.near_tables,
            };
            let Some(caller) = self.guess(stack, &frame) else {
                // Where threads start, the frame pointer is zero.
                return frame.registers.fp == 0;
            };
            let Some(returns) = FrameAddress::from_return_address(caller.returns) else {
                return false;
            };
            address = returns;
            registers = native::unwind_regs(&caller.registers());
            (uncertain, guessed) = (true, true);
        }
        false
    }

    fn is_behind_call(&mut self, address: FrameAddress) -> bool {
        match address {
            FrameAddress::ReturnAddress(returns) => self.sites.before(returns.get()).is_some(),
            FrameAddress::InstructionPointer(_) => false,
        }
    }

    /// The caller of a frame that the unwind tables do not lead out of.
    fn guess(&mut self, stack: &CapturedStack<'_>, frame: &Frame) -> Option<Caller> {
        self.sites.refresh();
        let (modules, native, cache) = (&self.modules, &self.native, &mut self.cache);
        let mut read = |address| stack.read_u64(address).ok_or(());
        let mut check = |sites: &mut CallSites, caller: &Caller| {
            let address = FrameAddress::from_return_address(caller.returns)?;
            let code =
                code_of(modules, address.address_for_lookup()).filter(|code| code.covered)?;
            let mut registers = native::unwind_regs(&caller.registers());
            let next = native.unwind_frame(address, &mut registers, cache, &mut read);
            let call = match next {
                Ok(Some(next)) => sites.before(next),
                // The thread's start.
                Ok(None) => Some(Call::Unknown),
                Err(_) => None,
            };
            Some(match call {
                Some(Call::Function(start)) if start != code.start => Evidence::Possible,
                Some(_) => Evidence::Consistent,
                None => Evidence::Refuted,
            })
        };
        let mut guess = Guess {
            stack,
            sites: &mut self.sites,
            check: &mut check,
        };
        guess.caller(frame)
    }

    fn code_around(&self, address: u64) -> Code {
        code_of(&self.modules, address).unwrap_or_else(|| {
            // Generated at run time.
            let lowest = address.saturating_sub(MAX_FUNCTION);
            let memory = self.sites.executable(address);
            Code {
                start: memory.map_or(address, |range| range.start.max(lowest)),
                covered: false,
                near_tables: false,
            }
        })
    }
}

/// The code around an address in a module.
fn code_of(modules: &[Arc<Module>], address: u64) -> Option<Code> {
    let of = |module: &&Arc<Module>| module.ranges.iter().any(|range| range.contains(&address));
    let module = modules.iter().find(of)?;
    let (svma, functions) = (module.svma(address), module.functions());
    let function = functions.around(svma);
    let covered = function.is_some();
    let start = match function {
        Some(function) => function.start,
        None => {
            let called = module.call_targets().before(svma);
            functions.gap(svma)?.start.max(called.unwrap_or(0))
        }
    };
    Some(Code {
        start: start.wrapping_add(module.bias),
        covered,
        near_tables: !functions.is_empty(),
    })
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
    let tables = UnwindTables::of(file);
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
            eh_frame_svma: addresses(&tables.eh_frame),
            eh_frame: bytes(&tables.eh_frame),
            eh_frame_hdr_svma: addresses(&tables.index),
            eh_frame_hdr: bytes(&tables.index),
            debug_frame: bytes(&tables.debug_frame),
            ..Default::default()
        },
    ))
}
