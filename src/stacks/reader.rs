//! Reads stacks of one process: unwinds and names them, and follows the libraries it loads.

use std::sync::Arc;
use std::time::Instant;

use super::symbolize::Symbolizer;
use super::unwind::{CapturedStack, Registers, Step, Unwinder, Unwound};
use crate::capture::SavedRegisters;
use crate::model::Frame;
use crate::target::modules::ModuleMap;

/// Unwinder and symboliser over the same modules.
pub struct StackReader {
    unwinder: Unwinder,
    pub symbolizer: Symbolizer,
    pub modules: ModuleMap,
}

impl StackReader {
    /// Over the modules of the process; nothing is read yet.
    pub fn new(modules: ModuleMap) -> Self {
        StackReader {
            unwinder: Unwinder::new(),
            symbolizer: Symbolizer::new(),
            modules,
        }
    }

    /// Reads the unwind tables, and the symbols of the executable: the first name of a large binary
    /// takes up to a second, all others no time.
    pub fn read_symbols(&mut self) {
        log::debug!("reading symbols and unwind tables");
        let begun = Instant::now();
        self.unwinder.set_modules(&self.modules);
        let main = self.modules.main();
        if let Some(code) = main.and_then(|main| main.ranges.first()) {
            let start = code.start;
            self.symbolizer.frames(&self.modules, &[start]);
        }
        log::debug!("symbols and unwind tables read in {:?}", begun.elapsed());
    }

    /// The addresses of a stack's frames.
    pub fn unwind(&mut self, registers: &SavedRegisters, base: u64, bytes: &[u8]) -> Unwound {
        let stack = captured(registers, base, bytes);
        let unwound = self.unwinder.unwind(&stack);
        match self.learns_modules_of(&unwound.addresses) {
            true => self.unwinder.unwind(&stack),
            false => unwound,
        }
    }

    /// The frames of a stack, with where their calls return to.
    pub fn walk(&mut self, registers: &SavedRegisters, base: u64, bytes: &[u8]) -> Vec<Step> {
        let stack = captured(registers, base, bytes);
        let steps = self.unwinder.walk(&stack);
        let addresses: Vec<u64> = steps.iter().map(|step| step.address).collect();
        match self.learns_modules_of(&addresses) {
            true => self.unwinder.walk(&stack),
            false => steps,
        }
    }

    /// The frames of a stack with their names.
    pub fn named(&mut self, unwound: &Unwound) -> Vec<Arc<Frame>> {
        self.symbolizer.stack(&self.modules, unwound)
    }

    /// The names of frames.
    pub fn frames(&mut self, addresses: &[u64]) -> Vec<Arc<Frame>> {
        self.symbolizer.frames(&self.modules, addresses)
    }

    /// Whether these addresses lead into libraries that were loaded since.
    fn learns_modules_of(&mut self, addresses: &[u64]) -> bool {
        let changed = self.modules.refresh_for(addresses);
        if changed {
            self.unwinder.set_modules(&self.modules);
        }
        changed
    }
}

fn captured<'a>(registers: &SavedRegisters, base: u64, bytes: &'a [u8]) -> CapturedStack<'a> {
    CapturedStack {
        registers: Registers::from(registers),
        base,
        bytes,
    }
}
