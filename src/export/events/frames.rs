//! Definitions of frames and stacks as JSON holds them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Frames and stacks that later events refer to.
#[derive(Default, Serialize, Deserialize)]
pub struct NewFrames<'a> {
    /// Discards all earlier definitions; ids start again at 1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    pub frames: Vec<FrameDef<'a>>,
    pub nodes: Vec<NodeDef>,
}

#[derive(Serialize, Deserialize)]
pub struct FrameDef<'a> {
    pub id: u32,
    pub name: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Place<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<Cow<'a, str>>,
    pub origin: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inlined: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
    /// Only of a frame without symbol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// Build-id of the module, with `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<Cow<'a, str>>,
}

/// `[id, parent, frame]`: the frame called by the stack `parent`; 0 is the empty stack.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct NodeDef(pub u32, pub u32, pub u32);

#[derive(Serialize, Deserialize)]
pub struct Place<'a> {
    pub file: Cow<'a, str>,
    pub line: u32,
}
