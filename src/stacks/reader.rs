//! Unwinds and symbolises stacks of one process, and follows the libraries that it loads.

use std::sync::Arc;
use std::time::Instant;

use super::symbolize::Symbolizer;
use super::unwind::{CapturedStack, Registers, Step, Unwinder, Unwound};
use crate::model::Frame;
use crate::target::modules::ModuleMap;

/// An unwinder and a symbolizer over the same modules.
pub struct StackReader {
    unwinder: Unwinder,
    pub symbolizer: Symbolizer,
    pub modules: ModuleMap,
}

impl StackReader {
    /// A reader for the process of these modules. Reads no files yet.
    pub fn new(modules: ModuleMap) -> Self {
        StackReader {
            unwinder: Unwinder::new(),
            symbolizer: Symbolizer::new(),
            modules,
        }
    }

    /// Reads the unwind tables, and the symbols of the executable. Without this call the first name in a
    /// large binary takes up to a second.
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
    pub fn unwind(&mut self, registers: &Registers, base: u64, bytes: &[u8]) -> Unwound {
        let stack = CapturedStack {
            registers: *registers,
            base,
            bytes,
        };
        let unwound = self.unwinder.unwind(&stack);
        match self.refresh_modules_for(&unwound.addresses) {
            true => self.unwinder.unwind(&stack),
            false => unwound,
        }
    }

    /// The frames of a stack, with the places of their return addresses.
    pub fn walk(&mut self, registers: &Registers, base: u64, bytes: &[u8]) -> Vec<Step> {
        let stack = CapturedStack {
            registers: *registers,
            base,
            bytes,
        };
        let steps = self.unwinder.walk(&stack);
        let addresses: Vec<u64> = steps.iter().map(|step| step.address).collect();
        match self.refresh_modules_for(&addresses) {
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

    /// Reads the modules again if an address is in none of them. Whether they changed.
    fn refresh_modules_for(&mut self, addresses: &[u64]) -> bool {
        let changed = self.modules.refresh_for(addresses);
        if changed {
            self.unwinder.set_modules(&self.modules);
        }
        changed
    }
}
