//! The blocking code itself: one function per cause, each a frame of its own on the stack.
//!
//! A function that blocks on another thread gets that thread from a constructor here. Everything
//! stays on this machine and ends with the process.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::truth::clock_ns;

const PAGE: usize = 4096;

/// CPU time of the calling thread.
fn thread_cpu_time() -> Duration {
    Duration::from_nanos(clock_ns(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// Computes for this much CPU time.
#[inline(never)]
pub fn block_on_cpu(time: Duration) {
    let end = thread_cpu_time() + time;
    let mut x = 1u64;
    while thread_cpu_time() < end {
        for _ in 0..4_000 {
            x = black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    black_box(x);
}

/// Sleeps the thread.
#[inline(never)]
pub fn block_on_sleep(time: Duration) {
    std::thread::sleep(time);
    black_box(());
}

/// A mutex, and a plain thread that holds it for as long as it is asked to.
pub struct HeldLock {
    lock: Arc<Mutex<u64>>,
    hold: Sender<Duration>,
    held: Receiver<()>,
}

impl HeldLock {
    pub fn new() -> Self {
        let lock = Arc::new(Mutex::new(0));
        let (hold, requests) = mpsc::channel();
        let (taken, held) = mpsc::channel();
        let theirs = Arc::clone(&lock);
        std::thread::spawn(move || {
            for time in requests {
                hold_the_lock(&theirs, &taken, time);
            }
        });
        HeldLock { lock, hold, held }
    }
}

#[inline(never)]
fn hold_the_lock(lock: &Mutex<u64>, taken: &Sender<()>, time: Duration) {
    let mut guard = lock.lock().expect("nobody panics with the lock");
    let _ = taken.send(());
    std::thread::sleep(time);
    *guard += 1;
}

/// Waits for a mutex that another thread holds.
#[inline(never)]
pub fn block_on_lock(held: &HeldLock, time: Duration) {
    let _ = held.hold.send(time);
    let _ = held.held.recv();
    *held.lock.lock().expect("nobody panics with the lock") += 1;
}

/// A channel, and a thread that sends into it late.
pub struct LateSender {
    ask: Sender<Duration>,
    answers: Receiver<u64>,
}

impl LateSender {
    pub fn new() -> Self {
        let (ask, requests) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for time in requests {
                send_late(&answer, time);
            }
        });
        LateSender { ask, answers }
    }
}

#[inline(never)]
fn send_late(answer: &Sender<u64>, time: Duration) {
    std::thread::sleep(time);
    let _ = answer.send(1);
}

/// Receives from a synchronous channel.
#[inline(never)]
pub fn block_on_channel(channel: &LateSender, time: Duration) {
    let _ = channel.ask.send(time);
    black_box(channel.answers.recv().ok());
}

/// One page, aligned as O_DIRECT requires.
#[derive(Clone, Copy)]
#[repr(align(4096))]
struct Page([u8; PAGE]);

/// A file that is read around the page cache, so that every read goes to the disk.
pub struct DirectFile {
    file: File,
    page: Box<Page>,
    next: u64,
}

impl DirectFile {
    const PAGES: u64 = 1024;
    /// Pages that one write fills.
    const CHUNK: usize = 128;

    /// Makes the file in `dir`; it has no name any more when this returns.
    pub fn new(dir: &Path, number: usize) -> io::Result<Self> {
        let path = dir.join(format!(".scenarios-{}-{number}", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_DIRECT)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        let full = Page([0x5a; PAGE]);
        let pages = vec![full; Self::CHUNK];
        let length = size_of_val(&pages[..]);
        // SAFETY: pages are bytes, without padding.
        let bytes = unsafe { std::slice::from_raw_parts(pages.as_ptr().cast::<u8>(), length) };
        for offset in (0..Self::PAGES * PAGE as u64).step_by(bytes.len()) {
            file.write_all_at(bytes, offset)?;
        }
        file.sync_all()?;
        Ok(DirectFile {
            file,
            page: Box::new(full),
            next: 1,
        })
    }

    /// A page far from the one before, so that no read-ahead helps.
    fn next_offset(&mut self) -> u64 {
        self.next = self.next.wrapping_mul(6_364_136_223_846_793_005) + 1;
        (self.next >> 32) % Self::PAGES * PAGE as u64
    }
}

/// Reads page after page from the disk: many waits, none of them long.
#[inline(never)]
pub fn block_on_file_io(direct: &mut DirectFile, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let offset = direct.next_offset();
        let read = direct.file.read_exact_at(&mut direct.page.0, offset);
        read.expect("the file is as long as it was made");
    }
}

/// Writes and waits until the disk has it: few waits, each of them long.
#[inline(never)]
pub fn block_on_fsync(direct: &mut DirectFile, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let offset = direct.next_offset();
        let written = direct.file.write_all_at(&direct.page.0, offset);
        let synced = written.and_then(|()| direct.file.sync_data());
        synced.expect("the disk takes one page");
    }
}

/// A connection to a peer on loopback that answers late.
pub fn late_peer() -> io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let (mut theirs, _) = listener.accept()?;
    std::thread::spawn(move || {
        let mut request = [0; 8];
        while theirs.read_exact(&mut request).is_ok() {
            answer_late(
                &mut theirs,
                Duration::from_nanos(u64::from_ne_bytes(request)),
            );
        }
    });
    ours.set_nodelay(true)?;
    Ok(ours)
}

#[inline(never)]
fn answer_late(peer: &mut impl Write, time: Duration) {
    std::thread::sleep(time);
    let _ = peer.write_all(&[1]);
}

/// Asks a peer and reads its answer from a blocking socket.
#[inline(never)]
pub fn block_on_network(stream: &mut TcpStream, time: Duration) {
    let request = (time.as_nanos() as u64).to_ne_bytes();
    let mut answer = [0; 1];
    let asked = stream.write_all(&request);
    let answered = asked.and_then(|()| stream.read_exact(&mut answer));
    answered.expect("the peer lives as long as the process");
}

/// A pipe of which another thread of this process holds the writing end.
pub struct LatePipe {
    ask: Sender<Duration>,
    read: io::PipeReader,
}

impl LatePipe {
    pub fn new() -> io::Result<Self> {
        let (read, mut write) = io::pipe()?;
        let (ask, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for time in requests {
                answer_late(&mut write, time);
            }
        });
        Ok(LatePipe { ask, read })
    }
}

/// Reads from a pipe.
#[inline(never)]
pub fn block_on_pipe(pipe: &mut LatePipe, time: Duration) {
    let mut answer = [0; 1];
    let _ = pipe.ask.send(time);
    let answered = pipe.read.read_exact(&mut answer);
    answered.expect("the writer lives as long as the process");
}

/// Runs a child process to its end.
#[inline(never)]
pub fn block_on_child(time: Duration) {
    let output = Command::new("sleep")
        .arg(format!("{:.4}", time.as_secs_f64()))
        .output();
    black_box(output.expect("sleep is installed"));
}

/// Memory whose pages are not yet mapped.
pub struct FreshMemory {
    start: *mut u8,
}

// SAFETY: the mapping belongs to this value alone.
unsafe impl Send for FreshMemory {}

impl FreshMemory {
    const BYTES: usize = 16 << 20;

    pub fn new() -> io::Result<Self> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing else.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = FreshMemory {
            start: start.cast(),
        };
        // With huge pages one fault would bring 512 pages. A kernel without them refuses; fine.
        memory.advise(libc::MADV_NOHUGEPAGE);
        Ok(memory)
    }

    fn advise(&self, advice: libc::c_int) {
        // SAFETY: the range is the mapping made in `new`, and nothing refers into it.
        unsafe { libc::madvise(self.start.cast(), Self::BYTES, advice) };
    }
}

/// Touches fresh pages, gives them back, and touches them again, for this much CPU time.
#[inline(never)]
pub fn block_on_page_faults(memory: &FreshMemory, time: Duration) {
    let end = thread_cpu_time() + time;
    loop {
        for offset in (0..FreshMemory::BYTES).step_by(PAGE) {
            // SAFETY: the offset is inside the mapping.
            unsafe { memory.start.add(offset).write_volatile(1) };
            if offset % (64 * PAGE) == 0 && thread_cpu_time() >= end {
                return memory.advise(libc::MADV_DONTNEED);
            }
        }
        memory.advise(libc::MADV_DONTNEED);
    }
}
