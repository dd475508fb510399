//! The search for where a live process's Tokio keeps its state: what its executable suggests, tried
//! on its threads as they run. At the start, and again where what was found no longer holds.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::Result;

use crate::arch;
use crate::capture::{TaskReader, TaskState};
use crate::target::memory::ProcessMemory;
use crate::tokio::{self, Discovery, Progress, Search, ThreadView, TokioLayout, WorkersSeen};

/// Whether polls can be known by the workers' frames where Tokio's state cannot be read: frames that
/// poll are known by their names, and by where calls keep their return addresses.
pub fn frames_tell_polls(discovery: &Discovery) -> bool {
    discovery.has_symbols && arch::CALLS_PUSH_RETURNS
}

/// A search under way in one process.
pub struct LayoutSearch {
    pid: u32,
    search: Search,
    reader: TaskReader,
    memory: ProcessMemory,
    stacks: Stacks,
}

impl LayoutSearch {
    /// In the process `pid`, whose executable gave `discovery`.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn new(pid: u32, discovery: &Discovery) -> Result<Self> {
        Ok(LayoutSearch {
            pid,
            search: Search::new(discovery),
            reader: TaskReader::new(pid)?,
            memory: ProcessMemory::new(pid),
            stacks: Stacks::default(),
        })
    }

    /// Forgets what was seen, and goes by this `discovery` from now on.
    pub fn restart(&mut self, discovery: &Discovery) {
        self.search = Search::new(discovery);
    }

    /// Looks at the threads once.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn step(&mut self) -> Result<Progress> {
        let views = self.views()?;
        Ok(self.search.step(&self.memory, &views))
    }

    /// Whether a layout holds on all threads as they are now.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn holds(&mut self, layout: &TokioLayout) -> Result<Result<WorkersSeen, String>> {
        let views = self.views()?;
        Ok(tokio::holds(layout, &self.memory, &views))
    }

    fn views(&mut self) -> Result<Vec<ThreadView>> {
        let tasks = self.reader.read()?;
        self.stacks.learn(self.pid, &tasks);
        let view = |task: &TaskState| ThreadView {
            stack: self.stacks.of(task),
            ..task.view()
        };
        Ok(tasks.iter().map(view).collect())
    }
}

/// The extents of the threads' stacks, as far as the memory map tells.
#[derive(Default)]
struct Stacks(HashMap<u32, Option<Range<u64>>>);

impl Stacks {
    /// Looks up threads that are new.
    fn learn(&mut self, pid: u32, tasks: &[TaskState]) {
        let is_new = |task: &&TaskState| !self.0.contains_key(&task.tid);
        let new: Vec<&TaskState> = tasks.iter().filter(is_new).collect();
        if new.is_empty() {
            return;
        }
        let maps = i32::try_from(pid)
            .ok()
            .and_then(|pid| procfs::process::Process::new(pid).ok())
            .and_then(|process| process.maps().ok());
        // Ascending by address, as the kernel lists them.
        let ranges: Vec<(u64, u64)> = maps.iter().flatten().map(|map| map.address).collect();
        for task in new {
            let address = task.registers.sp;
            let after = ranges.partition_point(|(start, _)| *start <= address);
            let mapping = after.checked_sub(1).and_then(|index| ranges.get(index));
            let stack = mapping.filter(|(_, end)| address < *end);
            self.0
                .insert(task.tid, stack.map(|(start, end)| *start..*end));
        }
    }

    fn of(&self, task: &TaskState) -> Option<Range<u64>> {
        self.0.get(&task.tid)?.clone()
    }
}
