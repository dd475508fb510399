//! Which addresses a call returns to: those behind a call instruction in executable memory.
//!
//! Where no unwind table tells, this is what distinguishes a return address on a stack from any other
//! word, and, where the called function is known, which function it returns from.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call_instruction::{self, Instruction, LONGEST};
use super::elf::{self, Segment};
use super::memory::{Memory, ProcessMemory};
use super::modules::{Module, ModuleMap};
use crate::arch::Machine;

/// Addresses remembered before everything is forgotten.
const MAX_REMEMBERED: usize = 1 << 16;

/// Executable memory without a file comes and goes as code is generated; it is read this often at
/// most.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// What is called by the instruction before a return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The function at this address.
    Function(u64),
    /// A function whose address was in a register or in memory.
    Unknown,
}

/// Where an ELF file's header has the address of the first instruction.
const ENTRY_AT: u64 = 24;

/// The code there, which calls `main` by way of the C library, is no longer than this, bytes.
const MAX_ENTRY: u64 = 64;

/// The code of one module.
struct Text {
    module: Arc<Module>,
    segments: Vec<Segment>,
    /// Its first instruction, of an executable.
    entry: Option<u64>,
}

/// The call sites of one process.
pub struct CallSites {
    memory: ProcessMemory,
    pid: u32,
    texts: Vec<Text>,
    /// Executable memory, with and without files, ascending.
    executable: Vec<Range<u64>>,
    read_at: Option<Instant>,
    known: HashMap<u64, Option<Call>>,
}

impl Default for CallSites {
    fn default() -> Self {
        CallSites {
            memory: ProcessMemory::new(0),
            pid: 0,
            texts: Vec::new(),
            executable: Vec::new(),
            read_at: None,
            known: HashMap::new(),
        }
    }
}

impl CallSites {
    /// Takes over the process's modules.
    pub fn set_modules(&mut self, map: &ModuleMap) {
        self.pid = map.pid();
        self.memory = ProcessMemory::new(self.pid);
        let text = |module: &Arc<Module>| Text {
            module: Arc::clone(module),
            entry: entry(module).filter(|_| module.is_main),
            segments: module
                .file
                .as_deref()
                .map(elf::code_segments)
                .unwrap_or_default(),
        };
        self.texts = map.modules().iter().map(text).collect();
        self.read_at = None;
        self.known.clear();
        self.refresh();
    }

    /// Reads again which memory is executable, at most once a second. A process that has exited
    /// keeps what it had.
    pub fn refresh(&mut self) {
        if self
            .read_at
            .is_some_and(|at| at.elapsed() < REFRESH_INTERVAL)
        {
            return;
        }
        self.read_at = Some(Instant::now());
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid));
        let executable: Vec<_> = maps
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(parse)
            .collect();
        if executable.is_empty() || executable == self.executable {
            return;
        }
        self.executable = executable;
        self.known.clear();
    }

    /// Whether the program begins at this address, or right before it.
    pub fn is_entry(&self, address: u64) -> bool {
        let entries = self.texts.iter().filter_map(|text| text.entry);
        entries
            .map(|entry| address.wrapping_sub(entry))
            .any(|after| after < MAX_ENTRY)
    }

    /// The executable mapping around an address.
    pub fn executable(&self, address: u64) -> Option<&Range<u64>> {
        let after = self
            .executable
            .partition_point(|range| range.start <= address);
        let before = self.executable.get(after.checked_sub(1)?)?;
        before.contains(&address).then_some(before)
    }

    /// The call that returns to this address; none where there is no call instruction before it.
    pub fn before(&mut self, address: u64) -> Option<Call> {
        self.executable(address.checked_sub(1)?)?;
        if let Some(known) = self.known.get(&address) {
            return *known;
        }
        let call = self.read(address);
        if self.known.len() >= MAX_REMEMBERED {
            self.known.clear();
        }
        self.known.insert(address, call);
        call
    }

    fn read(&self, address: u64) -> Option<Call> {
        let bytes = self.bytes_before(address)?;
        let function = |at: u64| self.executable(at).map(|_| Call::Function(at));
        let call = |instruction| match instruction {
            // Not executable: the bytes are the end of another instruction.
            Instruction::Direct(target) => function(target),
            Instruction::Through(entry) => {
                let target = self.memory.read_u64(entry).ok();
                target.and_then(function).or(Some(Call::Unknown))
            }
            Instruction::Indirect => Some(Call::Unknown),
        };
        let read = call_instruction::read(Machine::NATIVE, &bytes, address);
        read.into_iter().flatten().find_map(call)
    }

    /// What is in front of the address: in the module's file, or else in memory.
    fn bytes_before(&self, address: u64) -> Option<[u8; LONGEST]> {
        let start = address.checked_sub(LONGEST as u64)?;
        let mut bytes = [0; LONGEST];
        let from_file = self.place(start).and_then(|(file, offset)| {
            let read = file.read_exact_at(&mut bytes, offset);
            read.ok()
        });
        if from_file.is_none() {
            self.memory.read(start, &mut bytes).ok()?;
        }
        Some(bytes)
    }

    fn place(&self, address: u64) -> Option<(&File, u64)> {
        let around = |range: &Range<u64>| range.contains(&address);
        let text = self
            .texts
            .iter()
            .find(|text| text.module.ranges.iter().any(around))?;
        let svma = text.module.svma(address);
        let segment = text
            .segments
            .iter()
            .find(|segment| segment.contains(svma))?;
        let offset = segment.offset.checked_add(svma - segment.address)?;
        Some((text.module.file.as_deref()?, offset))
    }
}

fn entry(module: &Module) -> Option<u64> {
    let mut bytes = [0; 8];
    module
        .file
        .as_deref()?
        .read_exact_at(&mut bytes, ENTRY_AT)
        .ok()?;
    Some(u64::from_le_bytes(bytes).wrapping_add(module.bias))
}

/// The range of a line of `/proc/PID/maps` that shows executable memory.
fn parse(line: &str) -> Option<Range<u64>> {
    let (range, rest) = line.split_once(' ')?;
    if rest.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some(hex(start)?..hex(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn return_address() -> u64 {
        let mut address = 0;
        backtrace(&mut address);
        address
    }

    /// Where this call returns to.
    #[inline(never)]
    fn backtrace(address: &mut u64) {
        let frame: u64;
        // SAFETY: reads where the unwinder would: a debug build keeps frame pointers nowhere, so the
        // return address is taken from a call made right here.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::asm!("call 2f", "2: pop {}", out(reg) frame);
        }
        #[cfg(target_arch = "aarch64")]
        unsafe {
            std::arch::asm!("bl 2f", "2: mov {}, x30", out(reg) frame, out("x30") _);
        }
        *address = frame;
    }

    #[test]
    fn own_calls_are_found_in_the_file_and_own_data_is_not() {
        let map = ModuleMap::read(std::process::id()).unwrap();
        let mut sites = CallSites::default();
        sites.set_modules(&map);
        let address = return_address();
        assert_eq!(sites.before(address), Some(Call::Function(address)));
        assert_eq!(sites.before(address + 1), None);
        assert!(!sites.is_entry(address) && sites.is_entry(entry(map.main().unwrap()).unwrap()));
        assert_eq!(sites.before(&raw const map as u64), None);
        assert_eq!((sites.before(0), sites.before(u64::MAX)), (None, None));
    }

    #[test]
    fn only_executable_memory_is_parsed() {
        assert_eq!(
            parse("1000-3000 r-xp 00000000 00:00 0"),
            Some(0x1000..0x3000)
        );
        for line in [
            "1000-2000 rw-p 00000000 00:00 0 [heap]",
            "1000 r-xp",
            "",
            "x-y r-xp 0",
        ] {
            assert_eq!(parse(line), None);
        }
    }
}
