//! From addresses in the target to [`Frame`]s: names, source positions, inlined calls.
//!
//! The only module that knows blazesym. The first lookup in a file takes milliseconds or more, so a
//! session has one [`Symbolizer`], which caches every address and is used by the analysis thread alone.
//! Modules are opened through the descriptors that [`ModuleMap`] holds: these are the right files in
//! containers, and valid after the target's exit.

mod frames;
mod lookup;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::Arc;

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Kernel, Source};
use blazesym::symbolize::{self, Input, Sym};

use self::frames::{expand, intern};
use self::lookup::symbols;
use super::origin::Origins;
use super::unwind::Unwound;
use crate::model::{CodeAddress, Frame, OUTSIDE_FUNCTIONS, Origin};
use crate::target::debug_files::{DebugFile, SYSTEM_DIR};
use crate::target::modules::{Module, ModuleMap};

/// Addresses cached before all are discarded: bounds memory where a target keeps loading and unloading
/// code.
const MAX_CACHED: usize = 1 << 17;

/// Name of kernel frames whose symbols cannot be read, which needs CAP_SYSLOG.
pub(crate) const NAMELESS_KERNEL: &str = "[kernel]";

/// The frames of one address, innermost first.
pub(crate) type Frames = Arc<[Arc<Frame>]>;

/// Names addresses of one process and of the kernel.
pub struct Symbolizer {
    blazesym: symbolize::Symbolizer,
    origins: Origins,
    main: Option<Arc<Module>>,
    generation: Option<u64>,
    known: HashMap<u64, Frames>,
    known_kernel: HashMap<u64, Frames>,
    strings: HashSet<Arc<str>>,
}

impl Default for Symbolizer {
    fn default() -> Self {
        Symbolizer::new()
    }
}

impl Symbolizer {
    /// A symbolizer with an empty cache.
    pub fn new() -> Self {
        Symbolizer {
            blazesym: symbolize::Symbolizer::builder()
                // Only for files that debug files refer to. hud finds debug files itself.
                .set_debug_dirs(Some([SYSTEM_DIR]))
                .build(),
            origins: Origins::default(),
            main: None,
            generation: None,
            known: HashMap::new(),
            known_kernel: HashMap::new(),
            strings: HashSet::new(),
        }
    }

    /// The frames at these addresses, leaf first, with inlined calls as frames of their own,
    /// innermost first. Every address gives at least one frame: `module+0x1234`, the function's
    /// start, where no symbol covers it; the bare address outside of all modules.
    pub fn frames(&mut self, modules: &ModuleMap, addresses: &[u64]) -> Vec<Arc<Frame>> {
        self.follow(modules);
        let mut missing: Vec<(Option<&Arc<Module>>, Vec<u64>)> = Vec::new();
        let mut asked = HashSet::new();
        for &address in addresses {
            if self.known.contains_key(&address) || !asked.insert(address) {
                continue;
            }
            let module = modules.find(address).map(|(module, _)| module);
            match missing
                .iter_mut()
                .find(|(other, _)| other.map(Arc::as_ptr) == module.map(Arc::as_ptr))
            {
                Some((_, list)) => list.push(address),
                None => missing.push((module, vec![address])),
            }
        }
        for (module, list) in missing {
            let frames = match module {
                Some(module) => self.of_module(modules, module, &list),
                None => list.iter().map(|&address| nowhere(address)).collect(),
            };
            self.known.extend(list.into_iter().zip(frames));
        }
        collect(&self.known, addresses)
    }

    /// The frames of a stack, leaf first, as [`Symbolizer::frames`] gives them, with those marked
    /// that are guesses.
    pub fn stack(&mut self, modules: &ModuleMap, stack: &Unwound) -> Vec<Arc<Frame>> {
        let mut frames = self.frames(modules, &stack.addresses);
        let mut at = 0;
        for (index, address) in stack.addresses.iter().enumerate() {
            let count = self.known.get(address).map_or(0, |frames| frames.len());
            let of_address = frames.get_mut(at..at + count).unwrap_or_default();
            if stack.uncertain.binary_search(&index).is_ok() {
                for frame in of_address {
                    Arc::make_mut(frame).uncertain = true;
                }
            }
            at += count;
        }
        frames
    }

    /// The frames of a kernel stack, leaf first. One frame `[kernel]` stands for all of them where
    /// the kernel's symbols may not be read.
    pub fn kernel_frames(&mut self, addresses: &[u64]) -> Vec<Arc<Frame>> {
        if self.known_kernel.len() > MAX_CACHED {
            self.known_kernel.clear();
        }
        let missing: Vec<u64> = addresses
            .iter()
            .copied()
            .filter(|address| !self.known_kernel.contains_key(address))
            .collect();
        if !missing.is_empty() {
            // kallsyms knows all that is shown; a vmlinux would be a gigabyte of debug info.
            let kernel = Source::Kernel(Kernel {
                vmlinux: MaybeDefault::None,
                debug_syms: false,
                ..Kernel::default()
            });
            let symbols = self
                .blazesym
                .symbolize(&kernel, Input::AbsAddr(&missing))
                .unwrap_or_default();
            let named = symbols.iter().map(|symbol| symbol.as_sym());
            for (address, symbol) in missing.iter().zip(named.chain(std::iter::repeat(None))) {
                let name = symbol.map_or(NAMELESS_KERNEL, |symbol| &symbol.name);
                let frame = Frame {
                    function: name.into(),
                    raw: None,
                    location: None,
                    module: Some(NAMELESS_KERNEL.into()),
                    origin: Origin::Kernel,
                    inlined: false,
                    uncertain: false,
                    address: None,
                };
                self.known_kernel.insert(*address, [Arc::new(frame)].into());
            }
        }
        let mut frames = collect(&self.known_kernel, addresses);
        if frames.iter().all(|frame| frame.function == NAMELESS_KERNEL) {
            frames.truncate(1);
        }
        frames
    }

    /// Empties the cache if the target's modules have changed.
    fn follow(&mut self, modules: &ModuleMap) {
        if self.generation != Some(modules.generation()) {
            self.generation = Some(modules.generation());
            self.known.clear();
            let main = modules.main();
            if main.map(Arc::as_ptr) != self.main.as_ref().map(Arc::as_ptr) {
                self.main = main.cloned();
                self.origins = main
                    .and_then(|main| Some(Origins::scan(main.file.as_deref()?, &main.name)))
                    .unwrap_or_default();
            }
        }
        if self.known.len() > MAX_CACHED {
            self.known.clear();
            self.strings.clear();
        }
    }

    /// One list of frames for each address, all in this module.
    fn of_module(&mut self, modules: &ModuleMap, module: &Module, list: &[u64]) -> Vec<Frames> {
        let svmas: Vec<u64> = list.iter().map(|&address| module.svma(address)).collect();
        let (debug, own) = (modules.debug_file(module), module.file.as_deref());
        let named = self.of_files(debug, own, &module.name, &svmas);
        let build_id = module
            .build_id
            .as_ref()
            .map(|id| self.intern(&id.to_string()));
        named
            .into_iter()
            .zip(svmas)
            .map(|(frames, address)| {
                let unnamed = || {
                    [Arc::new(Frame {
                        function: nameless(module, address).into(),
                        raw: None,
                        location: None,
                        module: Some(module.name.clone()),
                        origin: self.origins.of("", None, &module.name),
                        inlined: false,
                        uncertain: false,
                        address: Some(CodeAddress {
                            address,
                            build_id: build_id.clone(),
                        }),
                    })]
                    .into()
                };
                frames.unwrap_or_else(unnamed)
            })
            .collect()
    }

    /// The frames of addresses as the module's file states them; none where no symbol covers one.
    pub(crate) fn of_files(
        &mut self,
        debug: Option<&DebugFile>,
        own: Option<&File>,
        module: &Arc<str>,
        svmas: &[u64],
    ) -> Vec<Option<Frames>> {
        let symbols = symbols(&self.blazesym, debug, own, svmas);
        let (origins, strings) = (&self.origins, &mut self.strings);
        let expand = |symbol: Option<Sym<'_>>| expand(&symbol?, origins, strings, module);
        symbols.into_iter().map(expand).collect()
    }

    /// Determines from the executable which code is the application's.
    pub(crate) fn learn_origins(&mut self, file: &File, name: &str) {
        self.origins = Origins::scan(file, name);
    }

    fn intern(&mut self, text: &str) -> Arc<str> {
        intern(&mut self.strings, text)
    }
}

/// The name of code without symbols: its function's start, so that all samples of a function have one
/// culprit. Code between two functions is named by where it begins.
fn nameless(module: &Module, address: u64) -> String {
    let (name, functions) = (&module.name, module.functions());
    if let Some(gap) = functions.gap(address).filter(|_| !functions.is_empty()) {
        return format!("{name}+{:#x}{OUTSIDE_FUNCTIONS}", gap.start);
    }
    let start = match functions.around(address) {
        Some(function) => function.start,
        None => module.call_targets().before(address).unwrap_or(address),
    };
    format!("{name}+{start:#x}")
}

/// The frame of an address in no module.
fn nowhere(address: u64) -> Frames {
    [Arc::new(Frame::named(
        format!("{address:#x}"),
        Origin::Unknown,
    ))]
    .into()
}

fn collect(known: &HashMap<u64, Frames>, addresses: &[u64]) -> Vec<Arc<Frame>> {
    addresses
        .iter()
        .filter_map(|address| known.get(address))
        .flat_map(|frames| frames.iter().cloned())
        .collect()
}
