//! The scheduler's counters of the target's threads, where polls cannot be tracked (tier 5).
//!
//! The task iterator gives each thread's counters; no program runs at the target's switches. Only
//! their names suggest which threads are workers, and threads of Tokio's blocking pool have the same.

use std::collections::HashMap;
use std::mem;

use anyhow::Result;

use super::{TaskReader, TaskState};
use crate::clock::monotonic_ns;
use crate::tokio::names::THREADS;

/// Threads that are listed, at most.
const MAX_THREADS: usize = 1024;

/// Where a thread's time went since it was listed first. Nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadLoad {
    pub tid: u32,
    pub comm: String,
    pub on_cpu_ns: u64,
    pub run_queue_ns: u64,
    /// Neither: parked, or blocked in a poll.
    pub asleep_ns: u64,
}

/// The threads at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    pub at_ns: u64,
    pub threads: Vec<ThreadLoad>,
    /// Threads that were listed before and have ended.
    pub gone: Vec<u32>,
    /// The most threads at one time that found no room in the list.
    pub left_out: u64,
}

/// Reads the counters at each call.
pub struct LoadReader {
    tasks: TaskReader,
    list: List,
}

impl LoadReader {
    /// Of the threads of the process `pid` whose names begin with `names`. Without that: of those with
    /// Tokio's own thread names, or of all if there are none.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn new(pid: u32, names: Option<String>) -> Result<Self> {
        Ok(LoadReader {
            tasks: TaskReader::new(pid)?,
            list: List::new(names),
        })
    }

    /// The counters now.
    ///
    /// # Errors
    /// When the kernel refuses the task iterator.
    pub fn read(&mut self) -> Result<Loads> {
        let tasks = self.tasks.read()?;
        Ok(self.list.update(monotonic_ns(), &tasks))
    }
}

/// The listed threads.
struct List {
    names: Option<String>,
    first: HashMap<u32, First>,
    left_out: u64,
}

/// A thread's counters when it was listed first.
struct First {
    at_ns: u64,
    sum_exec_ns: u64,
    run_delay_ns: u64,
}

impl List {
    fn new(names: Option<String>) -> Self {
        List {
            names,
            first: HashMap::new(),
            left_out: 0,
        }
    }

    fn update(&mut self, at_ns: u64, tasks: &[TaskState]) -> Loads {
        let mut chosen = choose(tasks, self.names.as_deref());
        let left_out = chosen.len().saturating_sub(MAX_THREADS) as u64;
        self.left_out = self.left_out.max(left_out);
        chosen.truncate(MAX_THREADS);
        let mut before = mem::take(&mut self.first);
        let mut threads = Vec::with_capacity(chosen.len());
        for task in chosen {
            let first = before.remove(&task.tid).unwrap_or(First {
                at_ns,
                sum_exec_ns: task.sum_exec_ns,
                run_delay_ns: task.run_delay_ns,
            });
            threads.push(first.load(at_ns, task));
            self.first.insert(task.tid, first);
        }
        Loads {
            at_ns,
            threads,
            gone: before.into_keys().collect(),
            left_out: self.left_out,
        }
    }
}

impl First {
    /// Where the thread's time went since.
    fn load(&self, at_ns: u64, task: &TaskState) -> ThreadLoad {
        let on_cpu_ns = task.sum_exec_ns.saturating_sub(self.sum_exec_ns);
        let run_queue_ns = task.run_delay_ns.saturating_sub(self.run_delay_ns);
        let awake_ns = on_cpu_ns.saturating_add(run_queue_ns);
        ThreadLoad {
            tid: task.tid,
            comm: task.comm.clone(),
            on_cpu_ns,
            run_queue_ns,
            asleep_ns: at_ns.saturating_sub(self.at_ns).saturating_sub(awake_ns),
        }
    }
}

/// The threads to list: see [`LoadReader::new`].
fn choose<'t>(tasks: &'t [TaskState], names: Option<&str>) -> Vec<&'t TaskState> {
    let named = |names: &[&str]| -> Vec<&TaskState> {
        let is_named = |task: &&TaskState| names.iter().any(|name| task.comm.starts_with(name));
        tasks.iter().filter(is_named).collect()
    };
    match names {
        Some(prefix) => named(&[prefix]),
        None => match named(&THREADS) {
            none if none.is_empty() => tasks.iter().collect(),
            tokio => tokio,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(tid: u32, comm: &str, sum_exec_ns: u64, run_delay_ns: u64) -> TaskState {
        TaskState {
            tid,
            comm: comm.to_owned(),
            sum_exec_ns,
            run_delay_ns,
            ..TaskState::default()
        }
    }

    fn tids(tasks: &[TaskState], names: Option<&str>) -> Vec<u32> {
        choose(tasks, names).iter().map(|task| task.tid).collect()
    }

    #[test]
    fn threads_are_chosen_by_name_as_far_as_names_tell() {
        let tokio = [
            task(1, "server", 0, 0),
            task(2, "tokio-rt-worker", 0, 0),
            task(3, "api-worker-0", 0, 0),
        ];
        assert_eq!(tids(&tokio, None), [2]);
        assert_eq!(tids(&tokio, Some("api")), [3]);
        assert_eq!(tids(&tokio, Some("none")), [0; 0]);
        let unnamed = [task(1, "server", 0, 0), task(3, "api-worker-0", 0, 0)];
        assert_eq!(tids(&unnamed, None), [1, 3]);
    }

    #[test]
    fn threads_without_room_are_counted_and_the_count_never_falls() {
        let mut list = List::new(None);
        let many: Vec<_> = (0..MAX_THREADS as u32 + 7)
            .map(|tid| task(tid, "tokio-rt-worker", 0, 0))
            .collect();
        assert_eq!(list.update(1_000, &many).left_out, 7);
        assert_eq!(list.update(1_100, &many[..9]).left_out, 7);
    }

    #[test]
    fn what_is_neither_on_a_cpu_nor_waits_for_one_is_asleep() {
        let mut list = List::new(None);
        let before = [task(2, "tokio-rt-worker", 500, 70)];
        let first = list.update(1_000, &before);
        let [load] = first.threads.as_slice() else {
            panic!("{first:?}");
        };
        assert_eq!(
            (load.on_cpu_ns, load.run_queue_ns, load.asleep_ns),
            (0, 0, 0)
        );
        let now = [task(2, "tokio-rt-worker", 530, 80)];
        let next = list.update(1_100, &now);
        assert_eq!(
            next.threads,
            [ThreadLoad {
                tid: 2,
                comm: "tokio-rt-worker".into(),
                on_cpu_ns: 30,
                run_queue_ns: 10,
                asleep_ns: 60,
            }]
        );
        assert_eq!(next.gone, [0; 0]);
        assert_eq!(list.update(1_200, &[]).gone, [2]);
    }
}
