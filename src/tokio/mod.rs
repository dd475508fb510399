//! Everything that hud knows of Tokio: where it keeps its state, how versions differ, and what its
//! functions are called. Nothing outside this module knows any of that.
//!
//! | Module | Job |
//! |---|---|
//! | `layout` | the type: paths from thread-locals to Tokio's state, and where they came from |
//! | `names` | functions, thread-locals, types, crates and threads by name |
//! | `binary` | what an executable's file says: versions, symbols, debug info |
//! | `table` | rows of offsets by version, for files without debug info |
//! | `live` | reads a live thread's state by a layout, and checks the invariants |
//! | `select` | the layout among those suggested that holds on the live threads |
//! | `learn` | a layout from what the fields do, for builds that no row fits |
//! | `search` | all of these in turn, step by step, until one layout is known |
//! | `kernel` | the layout in the form that the BPF programs take |

mod binary;
pub mod kernel;
mod layout;
mod learn;
mod live;
pub mod names;
mod search;
mod select;
mod table;
#[cfg(test)]
pub(crate) mod testing;

pub use binary::{Discovery, discover, libraries, tokio_in};
pub use layout::{
    BesideTick, ContextFields, FlavorPaths, PollPaths, Source, TaskId, ThreadLocals, TokioLayout,
};
pub(crate) use learn::rounds;
pub use live::{RootState, ThreadView, Verdict, WorkerState, check};
pub use search::{Progress, Search, Waiting};
pub use select::{WorkersSeen, holds};
