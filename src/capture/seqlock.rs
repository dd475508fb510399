//! The reader's side of the seqlock that guards [`hud_thread`].
//!
//! The kernel side makes `sequence` odd before it writes a worker's state, and even afterwards. A
//! copy is consistent if the sequence was even and the same before and after it was taken.
//!
//! That needs the writer's stores to become visible in program order. x86_64 guarantees it. On
//! aarch64 it takes a store barrier, which BPF lacks on most kernels that hud supports; there the
//! reader waits until the stores of a write that has just begun or ended must be visible, and
//! requires a second copy that is the same.

use std::mem::{offset_of, size_of};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

use crate::arch::Machine;
use crate::bpf::types::hud_thread;

/// How long to retry. A write takes 20 us at most, with the capture of a stack, unless the
/// hypervisor takes the CPU away from the writer.
const RETRY_FOR: Duration = Duration::from_millis(1);
/// Far longer than a CPU keeps a store to itself.
const STORES_VISIBLE_AFTER: Duration = Duration::from_micros(20);

const WORDS: usize = size_of::<hud_thread>() / size_of::<u32>();
const SEQUENCE: usize = offset_of!(hud_thread, sequence) / size_of::<u32>();
const _: () = assert!(size_of::<hud_thread>().is_multiple_of(size_of::<u32>()));

/// Copies a state that the kernel side writes at any time. `None` if every attempt within 1 ms
/// overlapped a write.
///
/// # Safety
/// `state` must be readable and aligned, and written only a word at a time while this runs.
pub(super) unsafe fn read(state: NonNull<hud_thread>) -> Option<hud_thread> {
    // SAFETY: the caller's.
    unsafe { read_with(state, Machine::NATIVE.keeps_store_order()) }
}

/// As [`read`], for a writer whose stores become visible in program order or not.
///
/// # Safety
/// As for [`read`].
unsafe fn read_with(state: NonNull<hud_thread>, stores_in_order: bool) -> Option<hud_thread> {
    let words = state.cast::<AtomicU32>();
    // SAFETY: the state consists of that many words; they are accessed atomically only.
    let words = unsafe { NonNull::slice_from_raw_parts(words, WORDS).as_ref() };
    let until = Instant::now() + RETRY_FOR;
    loop {
        let copy = try_copy(words)
            .filter(|copy| stores_in_order || try_copy_later(words).as_ref() == Some(copy));
        if let Some(copy) = copy {
            // SAFETY: the same size, and integers only: every bit pattern is valid.
            return Some(unsafe { std::mem::transmute::<[u32; WORDS], hud_thread>(copy) });
        }
        if Instant::now() >= until {
            return None;
        }
        std::hint::spin_loop();
    }
}

fn try_copy(words: &[AtomicU32]) -> Option<[u32; WORDS]> {
    let sequence = words[SEQUENCE].load(Ordering::Acquire);
    if !sequence.is_multiple_of(2) {
        return None;
    }
    let copy = std::array::from_fn(|word| words[word].load(Ordering::Relaxed));
    fence(Ordering::Acquire);
    (words[SEQUENCE].load(Ordering::Relaxed) == sequence).then_some(copy)
}

fn try_copy_later(words: &[AtomicU32]) -> Option<[u32; WORDS]> {
    let at = Instant::now() + STORES_VISIBLE_AFTER;
    while Instant::now() < at {
        std::hint::spin_loop();
    }
    try_copy(words)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    /// A state as the kernel side and user space share it.
    struct Shared([AtomicU32; WORDS]);

    impl Shared {
        fn new() -> Shared {
            Shared(std::array::from_fn(|_| AtomicU32::new(0)))
        }

        /// Writes `value` to every word as the kernel side does.
        fn write(&self, value: u32) {
            let sequence = self.0[SEQUENCE].load(Ordering::Relaxed);
            self.0[SEQUENCE].store(sequence | 1, Ordering::Relaxed);
            fence(Ordering::Release);
            self.set(value);
            self.0[SEQUENCE].store((sequence | 1).wrapping_add(1), Ordering::Release);
        }

        /// Sometimes pauses half way, so that a reader comes in between on one CPU too.
        fn set(&self, value: u32) {
            for (at, word) in self.0.iter().enumerate() {
                if at == WORDS / 2 && value.is_multiple_of(32) {
                    thread::sleep(Duration::from_micros(50));
                }
                if at != SEQUENCE {
                    word.store(value, Ordering::Relaxed);
                }
            }
        }

        fn read(&self, stores_in_order: bool) -> Option<[u32; WORDS]> {
            // SAFETY: the reference is to as many words as a state has, aligned as its u64 fields
            // need or not: they are read as u32.
            let copy = unsafe { read_with(NonNull::from(&self.0).cast(), stores_in_order) }?;
            // SAFETY: the same size, and integers only.
            Some(unsafe { std::mem::transmute::<hud_thread, [u32; WORDS]>(copy) })
        }
    }

    /// Reads for a while as a thread writes; returns how many copies were consistent, or at the first
    /// torn one.
    fn hammer(
        stores_in_order: bool,
        read_for: Duration,
        write: impl Fn(&Shared, u32) + Sync,
    ) -> Result<u32, String> {
        let shared = Shared::new();
        let stop = AtomicBool::new(false);
        let read = || {
            let mut copies = 0;
            let until = Instant::now() + read_for;
            while Instant::now() < until {
                let Some(copy) = shared.read(stores_in_order) else {
                    continue;
                };
                copies += 1;
                let value = copy[WORDS - 1];
                let is_torn = |(at, word): (usize, &u32)| at != SEQUENCE && *word != value;
                if let Some(at) = copy.iter().enumerate().position(is_torn) {
                    return Err(format!("word {at} of copy {copies} is of another write"));
                }
            }
            Ok(copies)
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                for value in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    write(&shared, value);
                    // The kernel side pauses between two writes too.
                    if value % 32 == 16 {
                        thread::sleep(Duration::from_micros(50));
                    }
                }
            });
            let copies = read();
            stop.store(true, Ordering::Relaxed);
            copies
        })
    }

    #[test]
    fn no_copy_is_torn_while_a_thread_writes() {
        for stores_in_order in [true, false] {
            let copies =
                hammer(stores_in_order, Duration::from_millis(300), Shared::write).unwrap();
            assert!(copies > 0, "nothing was read");
        }
    }

    /// What the kernel side did before: fields were written while the sequence was even.
    #[test]
    fn a_write_outside_of_the_sequence_is_noticed() {
        // On a busy machine the two threads seldom run at the same time.
        let torn = hammer(true, Duration::from_secs(30), |shared, value| {
            shared.set(value);
            shared.write(value);
        });
        assert!(torn.is_err(), "{torn:?}");
    }

    #[test]
    fn a_write_that_does_not_end_is_given_up() {
        let shared = Shared::new();
        shared.write(7);
        assert!(shared.read(true).is_some() && shared.read(false).is_some());
        shared.0[SEQUENCE].store(3, Ordering::Relaxed);
        let began = Instant::now();
        assert_eq!(shared.read(true), None);
        assert!(began.elapsed() >= RETRY_FOR);
    }
}
