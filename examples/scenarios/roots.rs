//! Root futures: what is given to `block_on`, or is `async fn main`. On a `current_thread` runtime it
//! runs on the one worker; on a `multi_thread` runtime on a thread that is no worker.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::blocking::{block_on_cpu, block_on_sleep};
use crate::catalog::Context;
use crate::causes::{CPU, Jitter, SLEEP, repeat};
use crate::healthy;
use crate::options::Flavor;
use crate::truth::{self, Holds, Timed};

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// A root future that times its polls.
fn timed(context: &Context, future: impl Future<Output = ()> + 'static) -> Boxed {
    let holds = match context.options.flavor {
        Flavor::MultiThread => Holds::Root,
        Flavor::CurrentThread => Holds::Worker,
    };
    Box::pin(Timed::with(future, holds))
}

/// Computes again and again, beside tasks that do not block.
pub fn cpu(context: Context) -> Boxed {
    healthy::background(&context);
    timed(&context, repeat(context.clone(), 0, CPU, block_on_cpu))
}

/// Computes and sleeps in turn. With `--gap-ms 0` its polls follow each other without a park.
pub fn busy(context: Context) -> Boxed {
    let mut sleeps = false;
    let block = move |time| {
        match sleeps {
            true => truth::blocking(SLEEP, || block_on_sleep(time)),
            false => truth::blocking(CPU, || block_on_cpu(time)),
        }
        sleeps = !sleeps;
    };
    timed(&context, repeat(context.clone(), 0, CPU, block))
}

/// Busy all the time, with polls that are each well under a millisecond.
pub fn many_short(context: Context) -> Boxed {
    timed(&context, async move {
        while Instant::now() < context.deadline {
            healthy::short_poll(Duration::from_micros(200));
            tokio::task::yield_now().await;
        }
    })
}

/// Takes messages from tasks on the workers, and hardly computes.
pub fn waits(context: Context) -> Boxed {
    let (sender, mut messages) = mpsc::channel(8);
    for number in 0..context.options.tasks {
        let (context, sender) = (context.clone(), sender.clone());
        tokio::spawn(Timed::new(async move {
            let mut jitter = Jitter::new(number);
            while Instant::now() < context.deadline {
                tokio::time::sleep(jitter.gap(&context)).await;
                if sender.send(number).await.is_err() {
                    break;
                }
            }
        }));
    }
    timed(&context, async move {
        while messages.recv().await.is_some() {
            healthy::short_poll(Duration::from_micros(20));
        }
    })
}
