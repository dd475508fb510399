//! Guesses the caller of a frame whose code no unwind table covers.
//!
//! The address that a call returns to stands on the stack, among words left over from calls that are
//! long done. A word is taken for the return address if it is behind a call instruction, the more
//! readily the surer that call leads to the frame's function. Frame pointers are followed where the
//! code keeps them.

use super::{CapturedStack, Registers, native};
use crate::arch::CALLS_PUSH_RETURNS;
use crate::target::call_sites::{Call, CallSites};

/// Words of a stack that are searched for a call of the frame's own function.
const REACH: u64 = 2048;

/// Words that are searched for a call of an unknown function.
const SHORT_REACH: u64 = 256;

/// Words below a return address that the callee's saved registers may be in.
const SAVED_REGISTERS: usize = 6;

/// Functions of which no start is known are hardly longer, bytes.
pub(super) const MAX_FUNCTION: u64 = 64 << 10;

/// A function that does no more than jump on lies this close to where it jumps, bytes.
const NEIGHBOUR: u64 = 4 << 10;

/// Bytes of a word.
const WORD: u64 = 8;

/// A frame of which the caller is sought.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub registers: Registers,
    /// Inside the instruction that runs, or inside the call.
    pub address: u64,
    /// Its function begins there or later, but not after `address`.
    pub start: u64,
    pub is_leaf: bool,
    /// The unwind tables cover other code of its module, so registers are right at the thread's start.
    pub near_tables: bool,
}

impl Frame {
    /// Whether the call leads to the frame's function, by its target.
    fn is_called_by(&self, call: Call) -> bool {
        matches!(call, Call::Function(start) if (self.start..=self.address).contains(&start))
    }

    /// Whether it may: by a pointer, or by a jump from the function called to a neighbour.
    fn may_be_called_by(&self, call: Call) -> bool {
        match call {
            Call::Function(start) => start.abs_diff(self.address) < NEIGHBOUR,
            Call::Unknown => true,
        }
    }
}

/// What is guessed of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Where the call returns to.
    pub returns: u64,
    /// Where on the stack that address lies; none where it was in the link register.
    pub place: Option<u64>,
    /// Stack pointer in the caller: exact on x86-64, elsewhere at most that.
    pub sp: u64,
    /// Frame pointer in the caller; the callee's where nothing better is known.
    pub fp: u64,
}

impl Caller {
    /// The registers in the caller.
    pub fn registers(&self) -> Registers {
        Registers {
            ip: self.returns,
            sp: self.sp,
            fp: self.fp,
            lr: self.returns,
        }
    }
}

/// What the unwind tables that cover a caller say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// They lead on to a call of the caller's function, or of one whose address was in memory.
    Consistent,
    /// They lead on to a call of another function, which may have jumped to the caller's.
    Possible,
    /// They lead to no call: the word is left over.
    Refuted,
}

/// Guesses callers on one stack.
pub(super) struct Guess<'a> {
    pub stack: &'a CapturedStack<'a>,
    pub sites: &'a mut CallSites,
    /// None where no table covers the caller.
    pub check: &'a mut dyn FnMut(&mut CallSites, &Caller) -> Option<Evidence>,
}

impl Guess<'_> {
    /// The most likely caller; none where no word on the stack may be a return address.
    pub fn caller(&mut self, frame: &Frame) -> Option<Caller> {
        let Registers { sp, fp, lr, .. } = frame.registers;
        let in_register = Caller {
            returns: lr,
            place: None,
            sp,
            fp,
        };
        // A function that calls no other may leave its return address where the call put it.
        let by_register = self.sites.before(lr).filter(|_| frame.is_leaf);
        if by_register.is_some_and(|call| frame.is_called_by(call)) {
            return Some(in_register);
        }
        let by_pointer = self.by_frame_pointer(frame);
        let own_frame = by_pointer.and_then(|(caller, _)| caller.place);
        let end = sp.saturating_add(REACH * WORD);
        let end = own_frame.map_or(end, |place| end.min(place + WORD));
        let mut possible = None;
        for place in places(sp, end) {
            let Some((returns, call)) = self.call_at(place) else {
                continue;
            };
            let caller = match by_pointer {
                Some((caller, _)) if own_frame == Some(place) => caller,
                _ => self.caller_at(frame, returns, place),
            };
            let evidence = (self.check)(self.sites, &caller);
            let may_be = match evidence {
                Some(evidence) => evidence != Evidence::Refuted,
                None => frame.may_be_called_by(call),
            };
            let on_top = frame.is_leaf && CALLS_PUSH_RETURNS && place == sp && may_be;
            if frame.is_called_by(call) || on_top || self.sites.is_entry(returns - 1) {
                return Some(caller);
            }
            if evidence == Some(Evidence::Consistent) && frame.may_be_called_by(call) {
                // Without tables near, the caller has none either as a rule.
                return possible.filter(|_| !frame.near_tables).or(Some(caller));
            }
            if may_be && place - sp < SHORT_REACH * WORD {
                possible = possible.or(Some(caller));
            }
        }
        // Threads start with a frame pointer of zero. What lies above is no stack.
        if fp == 0 && frame.near_tables && !frame.is_leaf {
            return None;
        }
        let (by_pointer, by_pointer_call) = by_pointer.unzip();
        // Where the function keeps no frame pointer, the register may hold that of a function further
        // out, which has another caller, mostly by name.
        if by_pointer_call == Some(Call::Unknown) {
            return by_pointer;
        }
        if by_register == Some(Call::Unknown) {
            return Some(in_register);
        }
        possible.or(by_pointer)
    }

    /// The caller by the frame pointer, where that can be one, and the call.
    fn by_frame_pointer(&mut self, frame: &Frame) -> Option<(Caller, Call)> {
        let Registers { sp, fp, .. } = frame.registers;
        let (returns, call) = self.call_above(fp, sp)?;
        let caller = Caller {
            returns,
            place: Some(fp + WORD),
            sp: fp + 2 * WORD,
            fp: self.stack.read_u64(fp)?,
        };
        Some((caller, call))
    }

    /// What lies above the word that a frame pointer points to, not below `lowest`: the return
    /// address, and the call.
    fn call_above(&mut self, pointer: u64, lowest: u64) -> Option<(u64, Call)> {
        if pointer < lowest || !pointer.is_multiple_of(WORD) {
            return None;
        }
        self.call_at(pointer.checked_add(WORD)?)
    }

    /// The caller whose return address lies at this place.
    fn caller_at(&mut self, frame: &Frame, returns: u64, place: u64) -> Caller {
        let Registers { sp, fp, .. } = frame.registers;
        let stack = self.stack;
        let sp_of_caller = place + WORD;
        // The function may have saved the frame pointer, to use its register otherwise.
        let saved = places(sp, place).rev().take(SAVED_REGISTERS);
        let saved = saved.filter_map(|place| stack.read_u64(place));
        let fp = std::iter::once(fp)
            .chain(saved)
            .find(|pointer| self.call_above(*pointer, sp_of_caller).is_some())
            .unwrap_or(fp);
        Caller {
            returns,
            place: Some(place),
            sp: sp_of_caller,
            fp,
        }
    }

    /// The return address at that place, if it can be one, and the call.
    fn call_at(&mut self, place: u64) -> Option<(u64, Call)> {
        let returns = native::return_address(self.stack.read_u64(place)?);
        Some((returns, self.sites.before(returns)?))
    }
}

/// The words from `start` to `end`, ascending.
fn places(start: u64, end: u64) -> impl DoubleEndedIterator<Item = u64> {
    (0..end.saturating_sub(start) / WORD).map(move |word| start + word * WORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::modules::ModuleMap;

    /// Where the stacks lie.
    const BASE: u64 = 0x7000_0000;

    /// Functions without unwind tables, in memory of this process: `FIRST` calls `CALLED` and then
    /// `LATER` by name, and a function by a pointer; `CALLED` and `LATER` call none.
    struct Generated {
        sites: CallSites,
        code: u64,
        returns: [u64; 3],
    }

    const CODE_BYTES: usize = 64 << 10;
    const FIRST: usize = 0x100;
    const CALLED: usize = 0x200;
    const LATER: usize = 0x8000;

    impl Generated {
        fn new() -> Generated {
            let mut bytes = vec![0u8; CODE_BYTES];
            let mut end = FIRST;
            let returns = [Some(CALLED), Some(LATER), None].map(|target| {
                let call = call(end, target);
                bytes[end..end + call.len()].copy_from_slice(&call);
                end += call.len();
                end as u64
            });
            // SAFETY: a new mapping of this size, written to before it becomes executable; it stays.
            let code = unsafe {
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let writable = libc::PROT_READ | libc::PROT_WRITE;
                let memory = libc::mmap(std::ptr::null_mut(), CODE_BYTES, writable, flags, -1, 0);
                assert_ne!(memory, libc::MAP_FAILED);
                memory.cast::<u8>().copy_from(bytes.as_ptr(), CODE_BYTES);
                let executable = libc::PROT_READ | libc::PROT_EXEC;
                assert_eq!(libc::mprotect(memory, CODE_BYTES, executable), 0);
                memory as u64
            };
            let mut sites = CallSites::default();
            sites.set_modules(&ModuleMap::read(std::process::id()).unwrap());
            Generated {
                sites,
                code,
                returns: returns.map(|offset| code + offset),
            }
        }

        /// The guess for a frame in `function` with these words on its stack; `evidence` is what
        /// unwind tables say of any caller.
        fn caller(
            &mut self,
            function: usize,
            words: &[u64],
            evidence: Option<Evidence>,
            set: impl FnOnce(&mut Frame),
        ) -> Option<Caller> {
            let mut frame = Frame {
                registers: Registers {
                    sp: BASE,
                    ..Registers::default()
                },
                address: self.code + function as u64 + 8,
                start: self.code + function as u64,
                is_leaf: false,
                near_tables: false,
            };
            set(&mut frame);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let stack = CapturedStack {
                registers: frame.registers,
                base: BASE,
                bytes: &bytes,
            };
            let mut guess = Guess {
                stack: &stack,
                sites: &mut self.sites,
                check: &mut |_, _| evidence,
            };
            guess.caller(&frame)
        }
    }

    /// A call of the function at `target`, or of one whose address is in a register.
    #[cfg(target_arch = "x86_64")]
    fn call(at: usize, target: Option<usize>) -> Vec<u8> {
        match target {
            Some(target) => {
                let displacement = (target - (at + 5)) as u32;
                [&[0xe8], &displacement.to_le_bytes()[..]].concat()
            }
            None => vec![0xff, 0xd0],
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn call(at: usize, target: Option<usize>) -> Vec<u8> {
        let word = match target {
            Some(target) => 0x9400_0000 | ((target - at) / 4) as u32,
            None => 0xd63f_0100,
        };
        word.to_le_bytes().to_vec()
    }

    fn at(index: u64) -> u64 {
        BASE + index * WORD
    }

    #[test]
    fn the_call_of_the_frames_own_function_is_found_among_others() {
        let mut generated = Generated::new();
        let [called, later, pointer] = generated.returns;
        let words = [1, called - 1, later, pointer, 7, called, called, 0];
        let caller = generated.caller(CALLED, &words, None, |_| ()).unwrap();
        assert_eq!((caller.returns, caller.place), (called, Some(at(5))));
        assert_eq!(caller.sp, at(6));
        let caller = generated.caller(LATER, &words, None, |_| ()).unwrap();
        assert_eq!((caller.returns, caller.place), (later, Some(at(2))));
    }

    #[test]
    fn what_no_call_instruction_is_before_is_never_a_caller() {
        let mut generated = Generated::new();
        let code = generated.code;
        let own = call as *const () as u64;
        let words = [0, 1, code, code + 4, own, BASE, at(7), u64::MAX];
        assert_eq!(generated.caller(CALLED, &words, None, |_| ()), None);
        assert_eq!(generated.caller(CALLED, &[], None, |_| ()), None);
        // Too far away to have jumped there.
        let far = [generated.returns[1]];
        assert_eq!(generated.caller(CALLED, &far, None, |_| ()), None);
    }

    #[test]
    fn a_frame_pointer_leads_to_calls_of_unknown_functions() {
        let mut generated = Generated::new();
        let [_, _, pointer] = generated.returns;
        let words = [0, pointer, 3, at(6), pointer, 5, 0, 0];
        let set = |frame: &mut Frame| frame.registers.fp = at(3);
        let caller = generated.caller(CALLED, &words, None, set).unwrap();
        let expected = Caller {
            returns: pointer,
            place: Some(at(4)),
            sp: at(5),
            fp: at(6),
        };
        assert_eq!(caller, expected);
        // Without: the first word.
        let caller = generated.caller(CALLED, &words, None, |_| ()).unwrap();
        assert_eq!(caller.place, Some(at(1)));
    }

    #[test]
    fn a_saved_frame_pointer_is_restored() {
        let mut generated = Generated::new();
        let [called, _, pointer] = generated.returns;
        let words = [0, at(5), 9, called, 0, 0, pointer];
        let set = |frame: &mut Frame| frame.registers.fp = 0xca;
        let caller = generated.caller(CALLED, &words, None, set).unwrap();
        assert_eq!((caller.place, caller.fp), (Some(at(3)), at(5)));
        // Nothing there can be one: what it was may still be right.
        let words = [0, 8, 9, called];
        let caller = generated.caller(CALLED, &words, None, set).unwrap();
        assert_eq!((caller.place, caller.fp), (Some(at(3)), 0xca));
    }

    #[test]
    fn unwind_tables_around_the_caller_confirm_and_refute() {
        let mut generated = Generated::new();
        let [_, _, pointer] = generated.returns;
        let words = [0, pointer, 7, pointer];
        let mut caller = |evidence| {
            let near = |frame: &mut Frame| frame.near_tables = true;
            let caller = generated.caller(CALLED, &words, evidence, near);
            caller.and_then(|caller| caller.place)
        };
        assert_eq!(caller(Some(Evidence::Consistent)), Some(at(1)));
        assert_eq!(caller(Some(Evidence::Refuted)), None);
        // Where threads start, more than a possibility is asked for.
        assert_eq!(caller(Some(Evidence::Possible)), None);
        assert_eq!(caller(None), None);
    }

    #[test]
    fn the_leafs_return_address_is_where_the_call_put_it() {
        let mut generated = Generated::new();
        let [called, _, pointer] = generated.returns;
        let words = [pointer, 0, called];
        let leaf = |lr| {
            move |frame: &mut Frame| {
                frame.is_leaf = true;
                frame.registers.lr = lr;
            }
        };
        if CALLS_PUSH_RETURNS {
            let caller = generated.caller(CALLED, &words, None, leaf(0)).unwrap();
            assert_eq!((caller.returns, caller.place), (pointer, Some(at(0))));
        } else {
            let caller = generated
                .caller(CALLED, &words, None, leaf(called))
                .unwrap();
            assert_eq!(
                (caller.returns, caller.place, caller.sp),
                (called, None, BASE)
            );
        }
    }
}
