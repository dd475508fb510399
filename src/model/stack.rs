//! Stacks as shown to people: frames, their origin, and the time that a stack stands for.

use std::fmt;
use std::sync::Arc;

use super::named_enum::named_enum;
use super::{Cause, Name};

named_enum! {
    /// Whose code a frame is.
    pub enum Origin {
        /// The application's own crates.
        User = "user",
        /// A dependency from a registry or a git checkout.
        ThirdParty = "third_party",
        /// Tokio itself and the machinery of polling futures.
        Runtime = "runtime",
        /// std, core, alloc, and the C library.
        Std = "std",
        /// Kernel code.
        Kernel = "kernel",
        /// No symbol tells.
        Unknown = "unknown",
    }
}

/// Ends the name of code that no symbol and no unwind table covers.
pub const OUTSIDE_FUNCTIONS: &str = " (outside known functions)";

/// One frame of a stack, as shown to people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The readable name: `my_app::handler` for `my_app::handler::{{closure}}`;
    /// `module+0x1234` where there is no symbol: the start of the function, if that is known, or of
    /// the code between two functions, with [`OUTSIDE_FUNCTIONS`] behind it.
    pub function: Name,
    /// The whole demangled name, where it differs from `function`.
    pub raw: Option<String>,
    /// The source position, where the debug info has one.
    pub location: Option<Location>,
    /// File name of the executable or library the code is in.
    pub module: Option<Arc<str>>,
    /// Whose code it is.
    pub origin: Origin,
    /// Inlined into the next frame towards the thread's start.
    pub inlined: bool,
    /// Found on the stack without unwind tables: it probably called the frame before it.
    pub uncertain: bool,
    /// Where the code is, if no symbol covers it: enough to name it later.
    pub address: Option<CodeAddress>,
}

impl Frame {
    /// A frame with no more than a name.
    pub fn named(function: impl Into<Name>, origin: Origin) -> Frame {
        Frame {
            function: function.into(),
            raw: None,
            location: None,
            module: None,
            origin,
            inlined: false,
            uncertain: false,
            address: None,
        }
    }

    /// Whether the code is known to be in none of its module's known functions.
    pub fn is_outside_functions(&self) -> bool {
        self.function.ends_with(OUTSIDE_FUNCTIONS)
    }
}

/// A place in the code of a module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CodeAddress {
    /// As the module's file states it (`p_vaddr`, symbols), wherever the module was mapped.
    pub address: u64,
    /// Of the module, in hexadecimal, where it has one.
    pub build_id: Option<Arc<str>>,
}

/// A position in the source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Path as the debug info has it.
    pub file: Arc<str>,
    /// Line, counted from 1; 0 where the compiler assigned none.
    pub line: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

named_enum! {
    /// What a thread was doing while it had a stack.
    pub enum Activity {
        /// Running.
        OnCpu = "on_cpu",
        /// Runnable and waiting for a CPU.
        RunQueue = "run_queue",
        /// Asleep in the kernel.
        Blocked = "blocked",
    }
}

/// One distinct stack inside a slow poll, with its share of the poll's time.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedStack {
    /// Leaf first, thread start last. Inlined frames stand on their own.
    pub frames: Vec<Arc<Frame>>,
    /// What the thread was doing.
    pub activity: Activity,
    /// Why, by the kernel's facts.
    pub cause: Cause,
    /// How much of the poll's time this stack stands for.
    pub weight_ns: u64,
    /// Whether unwinding reached the thread's start.
    pub complete: bool,
}
