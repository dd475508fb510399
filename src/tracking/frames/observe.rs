//! Reads what the frames of a worker's loop hold and point to, for the counters.

use std::collections::HashMap;

use super::Frames;
use super::counters::{Activity, Observation, POINTEE, REGION};
use crate::capture::TaskState;
use crate::stacks::unwind::Step;
use crate::target::memory::Memory;

/// Pointers into a stack lie this close to its stack pointer, bytes; none lies below this address.
const STACK_REACH: u64 = 1 << 20;
const LOWEST_POINTER: u64 = 1 << 16;

impl Frames {
    /// Reads the frames of a worker's loop from `base` up, and what they point to.
    pub(super) fn read_loop(
        &self,
        task: &TaskState,
        path: usize,
        base: u64,
    ) -> Option<Observation> {
        let path = self.paths.all.get(path)?;
        // Less where the stack ends.
        let bytes = [REGION, REGION / 2, REGION / 4]
            .into_iter()
            .find_map(|size| {
                let mut bytes = vec![0; size];
                self.memory.read(base, &mut bytes).ok().map(|()| bytes)
            })?;
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .filter_map(|word| Some(u64::from_le_bytes(word.try_into().ok()?)))
            .collect();
        let own = task.registers.sp.saturating_sub(STACK_REACH)
            ..task.registers.sp.saturating_add(STACK_REACH);
        let is_pointer =
            |word: &&u64| **word >= LOWEST_POINTER && word.is_multiple_of(8) && !own.contains(word);
        let mut pointees = HashMap::new();
        for pointer in words.iter().filter(is_pointer) {
            let mut bytes = vec![0; POINTEE];
            if !pointees.contains_key(pointer) && self.memory.read(*pointer, &mut bytes).is_ok() {
                pointees.insert(*pointer, bytes);
            }
        }
        let returns_to = |at: &u32, returns: &[u64]| {
            let word = words.get(*at as usize / size_of::<u64>());
            task.registers.sp <= base && word.is_some_and(|word| returns.contains(word))
        };
        // All levels must be there: a park may leave the lowest return address of the poll before it
        // in a gap of its own frames.
        let mut levels = path.slots.iter().zip(&path.returns);
        let in_poll = levels.all(|(at, returns)| returns_to(at, returns));
        // Until a park was seen, any sleep outside of polls counts as one.
        let [_, loop_at, _] = &path.slots;
        let in_park =
            task.is_asleep() && (path.parks.is_empty() || returns_to(loop_at, &path.parks));
        Some(Observation {
            switches: task.switches,
            running: task.on_cpu,
            activity: match in_poll {
                true => Activity::Poll,
                false if in_park => Activity::Park,
                false => Activity::Between,
            },
            frame: None,
            words,
            pointees,
        })
    }
}

/// The bytes of the frame whose caller's return address lies at `place`. None for the leaf, which
/// changes all the time.
pub fn frame_below<'b>(
    steps: &[Step],
    place: u64,
    stack_base: u64,
    bytes: &'b [u8],
) -> Option<&'b [u8]> {
    let caller = steps.iter().position(|step| step.place == place)?;
    let below = steps.get(caller.checked_sub(1)?)?.place;
    let offset = |address: u64| usize::try_from(address.checked_sub(stack_base)?).ok();
    let start = offset(below.checked_add(8).filter(|_| below != 0)?)?;
    bytes.get(start..offset(place)?)
}
