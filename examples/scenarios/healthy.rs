//! Healthy programs: code that holds no worker, however busy it or the machine is.

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::blocking;
use crate::catalog::Context;
use crate::causes::{CPU, Jitter, SLEEP};
use crate::runtimes::on_a_thread;
use crate::truth::{self, Timed};

/// Computes briefly; what a well-behaved poll does.
#[inline(never)]
pub fn short_poll(time: Duration) {
    blocking::block_on_cpu(time);
}

/// Tasks that never let the workers park, by polls that are each well under 100 us.
pub fn busy(context: &Context) -> io::Result<()> {
    for _ in 0..context.workers * 2 {
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

/// Tasks that only yield: millions of polls a second. Timing them would leave a tenth of that.
pub fn yields(context: &Context) -> io::Result<()> {
    for _ in 0..context.workers * 2 {
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
    for number in 0..context.workers * 2 {
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

/// A few tasks beside those that block, so that there are others to blame wrongly.
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

/// Workers that park for long and wake all at once, for one short poll each.
pub fn many_parked(context: &Context) -> io::Result<()> {
    let wake = Arc::new(Notify::new());
    for number in 0..context.workers {
        let (deadline, wake) = (context.deadline, Arc::clone(&wake));
        let mut jitter = Jitter::new(number);
        tokio::spawn(Timed::new(async move {
            while Instant::now() < deadline {
                wake.notified().await;
                short_poll(jitter.times(Duration::from_micros(200), 0.2, 2.0));
            }
        }));
    }
    let context = context.clone();
    let mut jitter = Jitter::new(context.workers);
    tokio::spawn(Timed::new(async move {
        while Instant::now() < context.deadline {
            tokio::time::sleep(jitter.times(Duration::from_millis(200), 0.1, 2.0)).await;
            wake.notify_waiters();
        }
    }));
    Ok(())
}

/// Computes on a thread that knows nothing of Tokio.
#[inline(never)]
fn compute_outside(deadline: Instant) {
    while Instant::now() < deadline {
        blocking::block_on_cpu(Duration::from_millis(10));
    }
}

/// Threads of the process, none of them a worker, use the CPUs while no task is polled.
pub fn foreign_busy(context: &Context) -> io::Result<()> {
    for number in 0..context.options.tasks {
        let deadline = context.deadline;
        on_a_thread(&format!("foreign-{number}"), move || {
            compute_outside(deadline);
            Ok(())
        })?;
    }
    Ok(())
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
        truth::timed_call(SLEEP, || blocking::block_on_sleep(time));
    } else {
        truth::timed_call(CPU, || blocking::block_on_cpu(time));
    }
}

/// Short polls on CPUs that other processes use as well: some last long, and no code is to blame.
pub fn stolen(context: &Context) -> io::Result<()> {
    beside_thieves(context, Duration::from_micros(300), 3)
}

/// Polls that are nearly all waiting for a CPU. None would be slow with a CPU of its own.
pub fn starved(context: &Context) -> io::Result<()> {
    beside_thieves(context, Duration::from_millis(4), 6)
}

/// Tasks that compute for so long in each poll, with as many other processes on each CPU.
fn beside_thieves(context: &Context, work: Duration, per_cpu: usize) -> io::Result<()> {
    for _ in 0..context.workers * 2 {
        let deadline = context.deadline;
        tokio::spawn(Timed::new(async move {
            while Instant::now() < deadline {
                short_poll(work);
                tokio::task::yield_now().await;
            }
        }));
    }
    let thieves = Thieves::start(context, per_cpu)?;
    let deadline = context.deadline;
    tokio::spawn(async move {
        tokio::time::sleep_until(deadline.into()).await;
        drop(thieves);
    });
    Ok(())
}

/// Processes that compute on every CPU this one may run on; killed when dropped.
struct Thieves(Vec<Child>);

impl Thieves {
    fn start(context: &Context, per_cpu: usize) -> io::Result<Self> {
        let mut thieves = Thieves(Vec::new());
        let program = std::env::current_exe()?;
        let seconds = context.options.duration.as_secs_f64().to_string();
        for cpu in allowed_cpus()? {
            for _ in 0..per_cpu {
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

/// Computes on one CPU for a time, or until the parent process is gone.
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
