//! The dictionary of a trace: stacks are nodes of a tree, and each frame and node is written once.
//!
//! Writer and reader are bounded. A full dictionary is reset, which the trace records, so no stack is
//! lost however long the recording. `stackFrames` repeats only the entries since the last reset.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::events::{FrameDef, NewFrames, NodeDef, Place, known};
use crate::model::{CodeAddress, Frame, Location, Origin};

/// Frames and nodes of one dictionary.
const MAX_FRAMES: usize = 30_000;
const MAX_NODES: usize = 150_000;
/// Deeper stacks are invalid. Captured stacks are at most 128 KiB and have far fewer frames.
const MAX_DEPTH: usize = 8192;

/// The writer's side: maps frames to ids.
#[derive(Default)]
pub struct Dictionary {
    frames: HashMap<Arc<Frame>, u32>,
    nodes: HashMap<(u32, u32), u32>,
    /// By id, from 1.
    frame_list: Vec<Arc<Frame>>,
    node_list: Vec<NodeDef>,
    /// How many entries of both lists [`Dictionary::take_new`] has returned.
    written_frames: usize,
    written_nodes: usize,
    reset: bool,
}

impl Dictionary {
    /// Makes room for stacks of so many frames. Returns whether that took a reset, which voids all
    /// ids.
    pub fn make_room(&mut self, frames: usize) -> bool {
        let full = |len: usize, max: usize| len > 0 && len + frames > max;
        let reset =
            full(self.frame_list.len(), MAX_FRAMES) || full(self.node_list.len(), MAX_NODES);
        if reset {
            *self = Dictionary {
                reset,
                ..Dictionary::default()
            };
        }
        reset
    }

    /// The id of a stack given leaf first; 0 for an empty one.
    pub fn stack(&mut self, leaf_first: &[Arc<Frame>]) -> u32 {
        let mut parent = 0;
        for frame in leaf_first.iter().rev() {
            let frame = match self.frames.get(frame) {
                Some(id) => *id,
                None => {
                    self.frame_list.push(frame.clone());
                    let id = self.frame_list.len() as u32;
                    self.frames.insert(frame.clone(), id);
                    id
                }
            };
            let next = self.node_list.len() as u32 + 1;
            parent = *self.nodes.entry((parent, frame)).or_insert_with(|| {
                self.node_list.push(NodeDef(next, parent, frame));
                next
            });
        }
        parent
    }

    /// The definitions since the last call. They must be written before the next event.
    pub fn take_new(&mut self) -> Option<NewFrames<'_>> {
        let frames = self
            .frame_list
            .get(self.written_frames..)
            .unwrap_or_default();
        let nodes = self.node_list.get(self.written_nodes..).unwrap_or_default();
        if nodes.is_empty() {
            return None;
        }
        let new = NewFrames {
            reset: std::mem::take(&mut self.reset),
            frames: (self.written_frames as u32 + 1..)
                .zip(frames)
                .map(|(id, frame)| define(id, frame))
                .collect(),
            nodes: nodes.to_vec(),
        };
        self.written_frames = self.frame_list.len();
        self.written_nodes = self.node_list.len();
        Some(new)
    }

    /// Every node with its parent (0 for none) and frame.
    pub fn nodes(&self) -> impl Iterator<Item = (u32, u32, &Frame)> {
        self.node_list
            .iter()
            .filter_map(|NodeDef(id, parent, frame)| {
                let frame = self.frame_list.get(*frame as usize - 1)?;
                Some((*id, *parent, &**frame))
            })
    }
}

fn define(id: u32, frame: &Frame) -> FrameDef<'_> {
    FrameDef {
        id,
        name: frame.function.as_str().into(),
        raw: frame.raw.as_deref().map(Cow::from),
        location: frame.location.as_ref().map(place),
        module: frame.module.as_deref().map(Cow::from),
        origin: frame.origin.as_str().into(),
        inlined: frame.inlined,
        uncertain: frame.uncertain,
        address: frame.address.as_ref().map(|at| at.address),
        build_id: frame
            .address
            .as_ref()
            .and_then(|at| at.build_id.as_deref())
            .map(Cow::from),
    }
}

/// Converts a location from the model.
pub fn place(location: &Location) -> Place<'_> {
    Place {
        file: Cow::from(&*location.file),
        line: location.line,
    }
}

/// Converts a location to the model.
pub fn location(place: Place<'_>) -> Location {
    Location {
        file: place.file.into(),
        line: place.line,
    }
}

/// The reader's side: maps ids to frames.
#[derive(Default)]
pub struct Table {
    frames: HashMap<u32, Arc<Frame>>,
    nodes: HashMap<u32, (u32, u32)>,
}

impl Table {
    /// Adds definitions.
    ///
    /// # Errors
    /// A message about the definition that is invalid.
    pub fn define(&mut self, new: NewFrames<'_>) -> Result<(), String> {
        if new.reset {
            *self = Table::default();
        }
        for def in new.frames {
            let origin = known("frame origin", &def.origin, Origin::from_name)?;
            let frame = Frame {
                function: def.name.into(),
                raw: def.raw.map(Cow::into_owned),
                location: def.location.map(location),
                module: def.module.map(Arc::from),
                origin,
                inlined: def.inlined,
                uncertain: def.uncertain,
                address: def.address.map(|address| CodeAddress {
                    address,
                    build_id: def.build_id.map(Arc::from),
                }),
            };
            self.frames.insert(def.id, Arc::new(frame));
        }
        for NodeDef(id, parent, frame) in new.nodes {
            // A parent precedes its children, so no path can be a cycle.
            if parent >= id || !self.frames.contains_key(&frame) {
                return Err(format!("stack {id} refers to an undefined frame or stack"));
            }
            self.nodes.insert(id, (parent, frame));
        }
        Ok(())
    }

    /// The stack of an id, leaf first.
    ///
    /// # Errors
    /// When it is undefined or deeper than any real stack.
    pub fn stack(&self, id: u32) -> Result<Vec<Arc<Frame>>, String> {
        self.path(id)
            .ok_or_else(|| format!("stack {id} is not defined"))
    }

    fn path(&self, id: u32) -> Option<Vec<Arc<Frame>>> {
        let mut frames = Vec::new();
        let mut at = id;
        while at != 0 {
            if frames.len() == MAX_DEPTH {
                return None;
            }
            let (parent, frame) = self.nodes.get(&at)?;
            frames.push(self.frames.get(frame)?.clone());
            at = *parent;
        }
        Some(frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::frame;

    #[test]
    fn a_stack_is_written_once_and_read_back() {
        let mut dictionary = Dictionary::default();
        let one = [
            frame("a", 1, true),
            frame("b", 2, false),
            frame("main", 3, false),
        ];
        let two = [
            frame("c", 1, false),
            frame("b", 2, false),
            frame("main", 3, false),
        ];
        let mut table = Table::default();
        let id = dictionary.stack(&one);
        table.define(dictionary.take_new().unwrap()).unwrap();
        assert_eq!(dictionary.stack(&one), id);
        assert!(dictionary.take_new().is_none());
        let other = dictionary.stack(&two);
        let new = dictionary.take_new().unwrap();
        assert_eq!((new.frames.len(), new.nodes.len()), (1, 1));
        table.define(new).unwrap();
        assert_eq!(table.stack(id).unwrap(), one);
        assert_eq!(table.stack(other).unwrap(), two);
        assert_eq!(table.stack(0).unwrap(), []);
        assert!(table.stack(99).is_err());
    }

    #[test]
    fn a_full_dictionary_is_reset() {
        let mut dictionary = Dictionary::default();
        let mut table = Table::default();
        for i in 0..2 * MAX_FRAMES as u32 {
            let stack = [frame("a", i, false)];
            dictionary.make_room(stack.len());
            let id = dictionary.stack(&stack);
            table.define(dictionary.take_new().unwrap()).unwrap();
            assert_eq!(table.stack(id).unwrap(), stack);
        }
        assert!(table.frames.len() <= MAX_FRAMES);
    }

    #[test]
    fn a_cycle_is_rejected() {
        let mut table = Table::default();
        let bad = NewFrames {
            nodes: vec![NodeDef(1, 1, 1)],
            ..NewFrames::default()
        };
        assert!(table.define(bad).is_err());
    }
}
