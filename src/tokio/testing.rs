//! What the tests of this module share: a Tokio runtime in the test process itself, read through
//! `process_vm_readv` as any target is, and memory made by hand.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::live::ThreadView;
use super::{Discovery, discover};
use crate::target::memory::{Memory, ProcessMemory};

/// The calling thread as hud sees it from outside.
pub fn this_thread() -> ThreadView {
    let local = 0u8;
    let stack_pointer = &raw const local as u64;
    let maps = procfs::process::Process::myself().unwrap().maps().unwrap();
    let stack = maps
        .iter()
        .find(|map| (map.address.0..map.address.1).contains(&stack_pointer))
        .map(|map| map.address.0..map.address.1);
    ThreadView {
        // SAFETY: gettid has no preconditions.
        tid: unsafe { libc::gettid() } as u32,
        thread_pointer: crate::arch::thread_pointer(),
        stack_pointer,
        stack,
        parked: None,
    }
}

pub fn memory() -> ProcessMemory {
    ProcessMemory::new(std::process::id())
}

pub fn own() -> Discovery {
    discover("/proc/self/exe".as_ref(), None).unwrap()
}

/// A runtime of two workers, and their threads. Blocking threads come later than workers.
pub fn multi_thread() -> (tokio::runtime::Runtime, Vec<ThreadView>) {
    let threads: Arc<Mutex<Vec<ThreadView>>> = Arc::default();
    let seen = threads.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .on_thread_start(move || seen.lock().unwrap().push(this_thread()))
        .build()
        .unwrap();
    // Enough polls on both workers for their ticks to move.
    runtime.block_on(async {
        let polls = (0..200).map(|_| tokio::spawn(tokio::task::yield_now()));
        for poll in polls.collect::<Vec<_>>() {
            poll.await.unwrap();
        }
    });
    while threads.lock().unwrap().len() < 2 {
        std::thread::yield_now();
    }
    let workers = threads.lock().unwrap().clone();
    (runtime, workers)
}

/// Memory in which everything that was not written is unmapped.
#[derive(Default)]
pub struct Words(HashMap<u64, u8>);

impl Words {
    pub fn put(&mut self, address: u64, word: u64) {
        for (at, byte) in (address..).zip(word.to_le_bytes()) {
            self.0.insert(at, byte);
        }
    }
}

impl Memory for Words {
    fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (at, byte) in (address..).zip(buffer) {
            *byte = *self.0.get(&at).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(())
    }
}
