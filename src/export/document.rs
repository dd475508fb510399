//! What surrounds the events of a trace: the head of the file and its ending.

use serde::Serialize;

use super::dictionary::Dictionary;
use super::events::{Event, OtherData};
use crate::model::{Frame, Header, Losses};

/// Ends the file while it is written. At the end [`stack_frames`] replaces it.
pub const ENDING: &[u8] = b"\n]}\n";

/// Closes the document.
pub const CLOSE: &[u8] = b"}\n";

/// Stack frames written at a time at the end.
const CHUNK: usize = 1000;

/// Writes everything up to and with the first event. Returns the offset of [`losses_text`].
///
/// # Errors
/// When the header cannot be written as JSON.
pub fn write_head(head: &mut Vec<u8>, header: &Header) -> serde_json::Result<u64> {
    #[derive(Serialize)]
    struct Name<'a> {
        name: &'a str,
    }
    head.extend_from_slice(b"{\"otherData\":");
    serde_json::to_writer(&mut *head, &OtherData::of(header))?;
    head.pop(); // The closing brace: the losses go inside.
    head.extend_from_slice(b",\"losses\":");
    let losses_at = head.len() as u64;
    head.extend_from_slice(losses_text(&Losses::default()).as_bytes());
    head.extend_from_slice(b"},\n\"displayTimeUnit\":\"ms\",\n\"traceEvents\":[\n");
    let mut event = Event::new("M", "process_name");
    event.pid = Some(header.pid);
    event.args = Some(Name {
        name: &header.process,
    });
    serde_json::to_writer(head, &event)?;
    Ok(losses_at)
}

/// The losses as a JSON object of constant length, so that it can be overwritten in place.
pub fn losses_text(losses: &Losses) -> String {
    let kinds = losses
        .by_kind()
        .map(|(name, n)| format!("\"{name}\":{n:20}"));
    format!("{{{}}}", kinds.join(","))
}

/// `function (file:line)`, as other tools write frames.
pub fn frame_text(frame: &Frame) -> String {
    match &frame.location {
        Some(location) => format!("{} ({location})", frame.function),
        None => frame.function.to_string(),
    }
}

/// The member `stackFrames` in chunks, after the end of the events: for other viewers.
pub fn stack_frames(dictionary: &Dictionary) -> impl Iterator<Item = Vec<u8>> {
    #[derive(Serialize)]
    struct StackFrame<'a> {
        category: &'a str,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<String>,
    }
    let mut nodes = dictionary.nodes().peekable();
    let mut begun = false;
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let mut chunk = Vec::new();
        if !begun {
            chunk.extend_from_slice(b"\n],\n\"stackFrames\":{\n");
        }
        for (id, parent, frame) in nodes.by_ref().take(CHUNK) {
            if begun {
                chunk.extend_from_slice(b",\n");
            }
            begun = true;
            chunk.extend_from_slice(format!("\"{id}\":").as_bytes());
            let stack_frame = StackFrame {
                category: frame.origin.as_str(),
                name: frame_text(frame),
                parent: (parent != 0).then(|| parent.to_string()),
            };
            // Cannot fail: strings only, into memory.
            let _ = serde_json::to_writer(&mut chunk, &stack_frame);
        }
        begun = true;
        if nodes.peek().is_none() {
            done = true;
            chunk.extend_from_slice(b"\n}");
        }
        Some(chunk)
    })
}
