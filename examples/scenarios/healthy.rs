//! Controls: code that holds no worker, however busy it, or the machine, is.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::blocking;
use crate::catalog::{Context, Jitter};
use crate::truth::{self, Label, Timed};

/// Computes briefly; what a well-behaved poll does.
#[inline(never)]
pub fn short_poll(time: Duration) {
    blocking::block_on_cpu(time);
}

/// Tasks that never let the workers park, by polls that are each well under 100 us.
pub fn busy(context: &Context) -> io::Result<()> {
    for _ in 0..context.options.workers * 2 {
        let deadline = context.deadline;
        tokio::spawn(Timed::new(async move {
            while Instant::now() < deadline {
                short_poll(Duration::from_micros(5));
                tokio::task::yield_now().await;
            }
        }));
    }
    Ok(())
}

/// Tasks that do nothing but make room for each other: millions of polls a second. Timed they would be
/// a tenth as many.
pub fn yields(context: &Context) -> io::Result<()> {
    for _ in 0..context.options.workers * 2 {
        tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
    }
    Ok(())
}

/// Some milliseconds of work, far from what counts as slow.
#[inline(never)]
pub fn one_of_a_thousand_cuts(time: Duration) {
    blocking::block_on_cpu(time);
    std::hint::black_box(());
}

/// Workers that are always busy although no poll of them is slow.
pub fn thousand_cuts(context: &Context) -> io::Result<()> {
    for number in 0..context.options.workers * 2 {
        let deadline = context.deadline;
        let mut jitter = Jitter::new(number);
        tokio::spawn(Timed::new(async move {
            while Instant::now() < deadline {
                one_of_a_thousand_cuts(jitter.times(Duration::from_millis(2), 0.6, 1.1));
                tokio::task::yield_now().await;
            }
        }));
    }
    Ok(())
}

/// Many timers, little work.
pub fn timers(context: &Context) -> io::Result<()> {
    for number in 0..200 {
        timer_task(context, number, Duration::from_micros(5));
    }
    Ok(())
}

/// A few tasks beside the ones that block, so that there are others to blame wrongly.
pub fn background(context: &Context) {
    for number in 0..2 {
        timer_task(context, number, Duration::from_micros(20));
    }
}

fn timer_task(context: &Context, number: usize, work: Duration) {
    let deadline = context.deadline;
    let mut jitter = Jitter::new(number);
    tokio::spawn(Timed::new(async move {
        while Instant::now() < deadline {
            tokio::time::sleep(jitter.times(Duration::from_millis(2), 1.0, 5.0)).await;
            short_poll(work);
        }
    }));
}

/// Blocking work where it belongs: on the blocking pool.
pub fn spawn_blocking(context: &Context) -> io::Result<()> {
    for number in 0..context.options.tasks {
        let context = context.clone();
        tokio::spawn(Timed::new(async move {
            let mut jitter = Jitter::new(number);
            while Instant::now() < context.deadline {
                let time = jitter.block(&context);
                let pooled = tokio::task::spawn_blocking(move || either(number, time));
                pooled.await.expect("the blocking call does not panic");
                tokio::time::sleep(jitter.gap(&context)).await;
            }
        }));
    }
    background(context);
    Ok(())
}

/// Blocking work that has handed its worker over first.
pub fn block_in_place(context: &Context) -> io::Result<()> {
    for number in 0..context.options.tasks {
        let context = context.clone();
        let future = async move {
            let mut jitter = Jitter::new(number);
            while Instant::now() < context.deadline {
                tokio::time::sleep(jitter.gap(&context)).await;
                let time = jitter.block(&context);
                tokio::task::block_in_place(|| either(number, time));
            }
        };
        // `either` times itself: what follows the hand-over is no longer a worker's poll.
        tokio::spawn(future);
    }
    background(context);
    Ok(())
}

/// Every other task computes, the others sleep.
fn either(number: usize, time: Duration) {
    if number.is_multiple_of(2) {
        let label = Label {
            function: "block_on_sleep",
            cause: "sleep",
        };
        truth::timed_call(label, || blocking::block_on_sleep(time));
    } else {
        let label = Label {
            function: "block_on_cpu",
            cause: "cpu",
        };
        truth::timed_call(label, || blocking::block_on_cpu(time));
    }
}

/// Short polls on CPUs that other processes want as well: polls last long, and are not to blame.
pub fn stolen(context: &Context) -> io::Result<()> {
    for _ in 0..context.options.workers * 2 {
        let deadline = context.deadline;
        tokio::spawn(Timed::new(async move {
            while Instant::now() < deadline {
                short_poll(Duration::from_micros(300));
                tokio::task::yield_now().await;
            }
        }));
    }
    let thieves = Thieves::start(context)?;
    let deadline = context.deadline;
    tokio::spawn(async move {
        tokio::time::sleep_until(deadline.into()).await;
        drop(thieves);
    });
    Ok(())
}

/// Processes that hold every CPU this one may run on; ended when dropped.
struct Thieves(Vec<Child>);

impl Thieves {
    const PER_CPU: usize = 3;

    fn start(context: &Context) -> io::Result<Self> {
        let mut thieves = Thieves(Vec::new());
        let program = std::env::current_exe()?;
        let seconds = context.options.duration.as_secs_f64().to_string();
        for cpu in allowed_cpus()? {
            for _ in 0..Self::PER_CPU {
                let mut command = Command::new(&program);
                command.args(["--burn", &cpu.to_string(), "--duration", &seconds]);
                thieves.0.push(command.stdin(Stdio::null()).spawn()?);
            }
        }
        Ok(thieves)
    }
}

impl Drop for Thieves {
    fn drop(&mut self) {
        for thief in &mut self.0 {
            let _ = thief.kill();
            let _ = thief.wait();
        }
    }
}

/// Holds one CPU for a time, or until the process that started this one is gone.
pub fn burn(cpu: usize, duration: Duration) {
    // SAFETY: plain system calls on a local set; `CPU_SET` ignores numbers beyond the set.
    let parent = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if cpu < libc::CPU_SETSIZE as usize {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of_val(&set), &set);
        libc::getppid()
    };
    let end = Instant::now() + duration;
    // SAFETY: getppid takes nothing and cannot fail.
    while Instant::now() < end && unsafe { libc::getppid() } == parent {
        blocking::block_on_cpu(Duration::from_millis(10));
    }
}

fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: the kernel fills a set that is as large as it is told.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&set), &mut set) != 0 {
            return Err(io::Error::last_os_error());
        }
        let cpus = 0..libc::CPU_SETSIZE as usize;
        Ok(cpus.filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect())
    }
}
