//! From addresses in the target to [`Frame`]s: names, source positions, inlined calls.
//!
//! The only file that knows blazesym. Looking a symbol up costs milliseconds the first time, so
//! there is one [`Symbolizer`] for a session, it remembers every address, and it belongs on the
//! analysis thread alone. Modules are opened through the descriptors that [`ModuleMap`] holds,
//! which are the right files in containers and after the target's exit.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Elf, Kernel, Source};
use blazesym::symbolize::{self, CodeInfo, Input, Sym, Symbolized};

use super::names;
use super::origin::{Origins, module_path};
use super::unwind::Unwound;
use crate::model::{CodeAddress, Frame, Location, OUTSIDE_FUNCTIONS, Origin};
use crate::target::debug_files::{DebugFile, SYSTEM_DIR};
use crate::target::elf;
use crate::target::mapped_file::reopen_path;
use crate::target::modules::{Module, ModuleMap};

/// Addresses remembered before everything is forgotten: bounds memory where a target keeps
/// loading and unloading code.
const MAX_REMEMBERED: usize = 1 << 17;

/// Name of kernel frames whose symbols may not be read (they need CAP_SYSLOG).
pub(crate) const NAMELESS_KERNEL: &str = "[kernel]";

pub(crate) type Frames = Arc<[Arc<Frame>]>;

/// Names the addresses of one process and of the kernel under it.
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
    /// A symbolizer that remembers nothing yet.
    pub fn new() -> Self {
        Symbolizer {
            blazesym: symbolize::Symbolizer::builder()
                // Only for what debug files refer to: the files themselves are found by hud.
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
        if self.known_kernel.len() > MAX_REMEMBERED {
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

    /// Forgets what does not hold any more once the target's modules have changed.
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
        if self.known.len() > MAX_REMEMBERED {
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

    /// Learns from the executable's file which code is its owner's.
    pub(crate) fn learn_origins(&mut self, file: &File, name: &str) {
        self.origins = Origins::scan(file, name);
    }

    fn intern(&mut self, text: &str) -> Arc<str> {
        intern(&mut self.strings, text)
    }
}

fn intern(strings: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    match strings.get(text) {
        Some(known) => known.clone(),
        None => {
            let new: Arc<str> = text.into();
            strings.insert(new.clone());
            new
        }
    }
}

/// What is known of each address: in the module's debug file first, then in the module itself.
fn symbols<'a>(
    blazesym: &'a symbolize::Symbolizer,
    debug: Option<&DebugFile>,
    own: Option<&File>,
    svmas: &[u64],
) -> Vec<Option<Sym<'a>>> {
    let mut symbols = match debug {
        Some(debug) => lookup(blazesym, &debug.open_path(), true, svmas),
        None => vec![None; svmas.len()],
    };
    let missing: Vec<u64> = svmas
        .iter()
        .zip(&symbols)
        .filter_map(|(svma, symbol)| symbol.is_none().then_some(*svma))
        .collect();
    if let Some(own) = own.filter(|_| !missing.is_empty()) {
        // Without debug info of its own, blazesym would look for some by its debug link, and in
        // hud's file system instead of the target's.
        let has_debug = elf::has_section(own, ".debug_info");
        let mut found = lookup(blazesym, &reopen_path(own), has_debug, &missing).into_iter();
        for symbol in symbols.iter_mut().filter(|symbol| symbol.is_none()) {
            *symbol = found.next().flatten();
        }
    }
    symbols
}

/// What blazesym knows of each address in the file; one failure does not lose the others.
fn lookup<'a>(
    blazesym: &'a symbolize::Symbolizer,
    path: &Path,
    has_debug: bool,
    svmas: &[u64],
) -> Vec<Option<Sym<'a>>> {
    let source = |debug_syms| {
        let mut elf = Elf::new(path);
        elf.debug_syms = debug_syms;
        Source::Elf(elf)
    };
    let (with_debug, bare) = (source(has_debug), source(false));
    let from_table = |svma| {
        blazesym
            .symbolize_single(&bare, Input::VirtOffset(svma))
            .ok()
            .and_then(Symbolized::into_sym)
    };
    // Broken debug info, or a debug link to the wrong file, fails the batch as a whole.
    let symbols = match blazesym.symbolize(&with_debug, Input::VirtOffset(svmas)) {
        Ok(symbols) => symbols.into_iter().map(Symbolized::into_sym).collect(),
        Err(_) => vec![None; svmas.len()],
    };
    // Version names (`LINUX_2.6`) are symbols without size at address 0; they cover nothing.
    let covers = |symbol: &Sym<'_>| {
        symbol.addr != 0 || symbol.size.is_some_and(|size| size > 0) || symbol.code_info.is_some()
    };
    symbols
        .into_iter()
        .map(|symbol| symbol.filter(covers))
        .zip(svmas)
        .map(|(symbol, &svma)| match symbol {
            // Line tables alone give bare names; the symbol table has the whole path.
            Some(mut symbol) if !names::is_qualified(&symbol.name) => {
                if let Some(whole) = from_table(svma)
                    && (symbol.name.is_empty() || names::is_qualified(&whole.name))
                {
                    symbol.name = whole.name;
                }
                Some(symbol)
            }
            Some(symbol) => Some(symbol),
            None => from_table(svma).filter(covers),
        })
        .collect()
}

/// The frames of one address: the calls inlined there, innermost first, then the function itself.
/// None where the function has no name. Inlined calls without one are left out.
fn expand(
    symbol: &Sym<'_>,
    origins: &Origins,
    strings: &mut HashSet<Arc<str>>,
    module: &Arc<str>,
) -> Option<Frames> {
    let inlined = symbol
        .inlined
        .iter()
        .rev()
        .map(|call| (call.name.as_ref(), call.code_info.as_ref(), true));
    let outer = (symbol.name.as_ref(), symbol.code_info.as_deref(), false);
    if names::is_blank(outer.0) {
        return None;
    }
    let frames = inlined
        .filter(|(name, ..)| !names::is_blank(name))
        .chain([outer])
        .map(|(name, code, inlined)| {
            let location = code.map(|code| location(code, strings));
            let file = location.as_ref().map(|location| location.file.as_ref());
            let placed = location
                .as_ref()
                .filter(|_| !names::is_qualified(name))
                .and_then(|at| Some(names::placed(name, &module_path(&at.file)?, at.line)));
            let function = placed.unwrap_or_else(|| names::readable(name).into_owned());
            Arc::new(Frame {
                origin: origins.of(name, file, module),
                raw: (name != function).then(|| name.to_owned()),
                function: function.into(),
                location,
                module: Some(module.clone()),
                inlined,
                uncertain: false,
                address: None,
            })
        });
    Some(frames.collect())
}

fn location(code: &CodeInfo<'_>, strings: &mut HashSet<Arc<str>>) -> Location {
    let path = code.to_path();
    let file = intern(strings, &path.to_string_lossy());
    Location {
        file,
        line: code.line.unwrap_or(0),
    }
}

/// What stands for the name of code without symbols. One function is one culprit, wherever in it the
/// samples are, and so is what lies between two functions.
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

/// The frame of an address that lies in no module.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn a_function_with_a_name() -> u64 {
        // Not its first instruction, so that the line is one of the body's.
        a_function_with_a_name as *const () as u64 + 1
    }

    #[test]
    fn own_code_has_name_position_and_owner() {
        let modules = ModuleMap::read(std::process::id()).unwrap();
        let mut symbolizer = Symbolizer::new();
        let address = a_function_with_a_name();
        // The unknown addresses before and after do not lose the one between.
        let frames = symbolizer.frames(&modules, &[8, address, u64::MAX]);
        let [below, own, above] = frames.as_slice() else {
            panic!("{frames:#?}");
        };
        assert_eq!(below.function, "0x8");
        assert_eq!(above.origin, Origin::Unknown);
        assert!(
            own.function
                .ends_with("symbolize::tests::a_function_with_a_name"),
            "{own:?}"
        );
        assert_eq!(own.origin, Origin::User);
        let location = own.location.as_ref().unwrap();
        assert!(
            location.file.ends_with("src/stacks/symbolize.rs"),
            "{location}"
        );
        assert!(location.line > 0);
        assert_eq!(own.address, None);
        let again = symbolizer.frames(&modules, &[address]);
        assert!(Arc::ptr_eq(&again[0], own), "not remembered");
    }

    #[test]
    fn an_address_without_symbol_names_its_module() {
        let modules = ModuleMap::read(std::process::id()).unwrap();
        let vdso = modules
            .modules()
            .iter()
            .find(|module| &*module.name == "[vdso]")
            .unwrap();
        // The vDSO's ELF header is no function.
        let frames = Symbolizer::new().frames(&modules, &[vdso.ranges[0].start]);
        assert_eq!(frames[0].function, "[vdso]+0x0 (outside known functions)");
        assert!(frames[0].is_outside_functions());
        let address = frames[0].address.as_ref().unwrap();
        assert_eq!(address.address, 0);
        assert_eq!(
            address.build_id.as_deref().map(str::to_owned),
            vdso.build_id.as_ref().map(ToString::to_string)
        );
        assert_eq!(frames[0].origin, Origin::Std);
    }

    #[test]
    fn kernel_addresses_always_give_a_frame() {
        let frames =
            Symbolizer::new().kernel_frames(&[0xffff_ffff_8100_0000, 0xffff_ffff_8100_0010]);
        assert!(!frames.is_empty());
        assert!(frames.iter().all(|frame| frame.origin == Origin::Kernel));
    }
}
