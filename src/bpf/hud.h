/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The whole interface between hud's BPF programs and its user space.
 *
 * The Rust types are generated from this file; nothing is declared twice. Fields have fixed
 * widths and structs have no implicit padding. Times are nanoseconds. "clock" is the scheduler's
 * own clock (rq->clock), which costs no read of a hardware clock; "mono" is CLOCK_MONOTONIC; both
 * appear together where user space has to convert.
 */
#ifndef HUD_H
#define HUD_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

/* User stack bytes in one capture. Copies stop at the top of the stack, so most are far smaller. */
#define HUD_STACK_PAGES 32
#define HUD_PAGE 4096
#define HUD_STACK_BYTES (HUD_STACK_PAGES * HUD_PAGE)
#define HUD_KERNEL_FRAMES 32
/* Distinct places where one poll blocked; the last one collects the rest. */
#define HUD_SITES 8
#define HUD_COMM 16
/* User stack bytes taken of threads other than the one that was held: their innermost frames. */
#define HUD_OTHER_PAGES 4
#define HUD_OTHER_BYTES (HUD_OTHER_PAGES * HUD_PAGE)
/* Ways from a worker's loop into a poll; how many return addresses name one, and their variants. */
#define HUD_WAYS 4
#define HUD_WAY_LEVELS 3
#define HUD_WAY_RETURNS 4
#define HUD_WAY_COUNTERS 16

/* How much of Tokio's structs is read at once: of Context, and of scheduler::Context. */
enum hud_read_sizes {
	HUD_CONTEXT_BYTES = 128,
	HUD_SCHEDULER_CONTEXT_BYTES = 64,
};

/* Offsets of Tokio's state: see TokioLayout in src/tokio. */
struct hud_tokio {
	s64 context;
	u64 current_thread_tag;
	u64 multi_thread_tag;
	u32 task_id;
	u32 task_id_wide;
	u32 budget;
	u32 scheduler;
	u32 flavor;
	u32 current_thread_core;
	u32 multi_thread_core;
	/* 0: only current_thread is compiled in, there is no discriminant. */
	u32 has_flavor;
	/* Before Tokio 1.29 `scheduler` does not exist: each flavor's own thread-local. 0: none. */
	s64 current_thread_scheduler;
	s64 multi_thread_scheduler;
	u32 apart;
	/* 0 before 1.22: then the budget that is left tells polls of one tick apart. */
	u32 has_task_id;
};

/* Offsets of Core::tick: where they are guesses, a flavor that starts later may correct its own. */
struct hud_core_ticks {
	u32 current_thread;
	u32 multi_thread;
};

/* A number of a worker that grows with its rounds. */
struct hud_counter {
	/* Where on the stack a pointer to its surroundings is kept: bytes above the way's lowest
	 * word. */
	u32 pointer;
	/* From there, bytes. */
	u32 offset;
};

/*
 * One way from a worker's loop into a poll: three return addresses that lie one above the other on
 * the stack of every thread that takes it.
 */
struct hud_way {
	/* Where they lie, in bytes above the lowest one. */
	u32 places[HUD_WAY_LEVELS];
	u32 flavor;
	/* What they may be; 0: none. */
	u64 returns[HUD_WAY_LEVELS][HUD_WAY_RETURNS];
	/* In the place of the second one: where calls of the loop return to that park. */
	u64 parks[HUD_WAY_RETURNS];
	u32 counter_count;
	/* Where the worker's core is kept on the stack, in bytes as above; 0: unknown. */
	u32 core;
	struct hud_counter counters[HUD_WAY_COUNTERS];
};

/* Set before load, constant afterwards. */
struct hud_config {
	struct hud_tokio tokio;
	u64 threshold_ns;
	/* How far apart samples of a thread need to be at most. */
	u64 sample_period_ns;
	/* How far apart the scheduler's ticks are. */
	u64 tick_ns;
	u32 tgid;
	u32 own_tgid;
	/* All poll time: of this many samples of a thread inside polls one stack is sent. */
	u32 profile_stride;
	/* Polls are known by `ways`: Tokio's state cannot be read. */
	u32 by_frames;
};

/* How the scheduler's tick is known from other timers. */
struct hud_tick {
	u64 expires;
	/* The timer's callback, equal on all CPUs. */
	u64 function;
	/* The outermost kernel frame of a tick that interrupts user mode. */
	u64 user_entry;
	/* How often all of this was seen again, less how often something else was. */
	u64 confirmed;
};

/* What a thread was last seen doing. */
enum hud_phase {
	HUD_PHASE_UNKNOWN = 0,
	/* Not holding a worker's core: block_in_place, or the core is being handed over. */
	HUD_PHASE_DETACHED = 1,
	/* Holding a core, not polling: parked, or between polls. */
	HUD_PHASE_IDLE = 2,
	HUD_PHASE_POLL = 3,
};

/* How a thread was last seen. */
enum hud_seen {
	HUD_SEEN_SAMPLED = 0,
	HUD_SEEN_RUNNABLE = 1,
	HUD_SEEN_BLOCKED = 2,
	HUD_SEEN_STOPPED = 3,
};

enum hud_flavor {
	HUD_FLAVOR_CURRENT_THREAD = 0,
	HUD_FLAVOR_MULTI_THREAD = 1,
	/* One that the layout in use knows nothing of. */
	HUD_FLAVOR_OTHER = 2,
};

enum hud_poll_flags {
	/* Under way when hud attached. */
	HUD_POLL_BEGAN_BEFORE = 1,
	/* CPU bandwidth control held the thread back. */
	HUD_POLL_THROTTLED = 2,
	/* The poll passed the threshold: what was kept back has been sent. */
	HUD_POLL_SLOW = 4,
	/* Known by its task id alone: the coop budget was not in force. */
	HUD_POLL_UNCONSTRAINED = 8,
	/* The hypervisor or interrupts took the CPU away; counted as run queue. */
	HUD_POLL_STOLEN = 16,
};

/* The kernel's facts about one place where a poll blocked. */
struct hud_site {
	u64 sp;
	u64 args[3];
	u64 blocked_ns;
	s32 syscall;
	s32 previous_syscall;
	u32 count;
	/* i_mode of the file in argument 0 (or of the first pollfd); 0: none. */
	u16 fd_mode;
	u8 in_iowait;
	u8 has_children;
	/* A stack of it was captured in this poll. */
	u32 captured;
	u32 unused;
};

/* One poll of one task, so far. */
struct hud_poll {
	u64 sequence; /* of this thread */
	u64 core;
	u64 task; /* 0: the root future of block_on */
	u64 start_clock;
	/* When it was seen first; before, its time is an estimate. */
	u64 first_seen_clock;
	u64 on_cpu_ns;
	/* Of it, what lies before it was seen first, and after it was seen last. */
	u64 estimated_ns;
	u64 run_queue_ns;
	u64 blocked_ns;
	u64 stopped_ns;
	/* The part of run_queue_ns that came in pieces below 1 ms right after a wake. */
	u64 wake_delay_ns;
	/* Page faults since the poll began, and in the moment before. */
	u64 faults;
	u32 tick;
	u32 flags;
	u32 site_count;
	/* What is left of the coop budget, where no task id is known; else 0. */
	u32 budget_left;
	struct hud_site sites[HUD_SITES];
};

/* A blocked state known to be a park: recognised without reading the target's memory. */
struct hud_park {
	u64 sp;
	u64 arg0;
	s32 syscall;
	u32 uses;
};

/* Where a worker's time went since hud attached. */
struct hud_usage {
	u64 on_cpu_ns;
	u64 run_queue_ns;
	u64 blocked_ns; /* asleep inside a poll */
	u64 parked_ns;
	u64 polls_observed;
	u64 longest_poll_ns;
};

/* The state of one worker thread, in a map that user space has mapped. */
struct hud_thread {
	u32 tid; /* 0: free */
	/* Odd while being written. */
	u32 sequence;
	u32 phase;
	u32 seen_as;
	u32 flavor;
	u32 skipped;
	u64 scheduler;
	u64 thread_pointer;
	/* Where the lowest word of each way lies on its stack; 0: not known to take it. */
	u64 ways[HUD_WAYS];
	/* Its state was set before hud attached, at this many context switches less 1; else 0. */
	u64 seeded;
	/* Full reads of a runnable thread are limited: see may_read. */
	u64 read_credit_clock;
	/* The id in Context while the worker polls nothing, and the core it had then (0: unknown).
	 */
	u64 idle_task;
	u64 idle_core;
	/* Samples inside polls that no stack was sent for yet. */
	u32 profile_samples;
	u32 site; /* where it is blocked, while seen_as is BLOCKED inside a poll */
	u64 seen_clock;
	u64 delay_seen;
	u64 exec_seen;
	/* All page faults of its life; 0: not known. */
	u64 faults_seen;
	/* All CPU time of its life when it last left the CPU; 0: not known. */
	u64 exec_out;
	/* A stint on the CPU by its arrival, and what was stolen in it so far. */
	u64 stint_arrival;
	u64 stint_stolen;
	/* A poll's length in general: CPU time by scheduling rounds. */
	u64 mean_poll_ns;
	/* What the rounds before the poll under way teach of it, if that one is not slow; else 0.
	 */
	u64 round_ns;
	/* The least time seen from a sleep to a poll, and from a poll to its park; 0: none yet. */
	u64 to_poll_ns;
	u64 to_park_ns;
	/* The newest sample that was taken in, and the newest of perf's clock, whatever it met. */
	u64 sampled_clock;
	u64 interrupted_clock;
	/* All poll time: usage.on_cpu_ns at the newest sample, and what no stack was sent for yet.
	 */
	u64 profiled_cpu_ns;
	u64 profile_ns;
	/* The core whose tick was read last (0: none is known), that tick, and the time on the CPU
	 * since then.
	 */
	u64 tick_core;
	u64 tick_on_cpu_ns;
	u32 tick;
	/* User space has it sampled more often than slow polls need: for the edges between them. */
	u32 closely;
	u64 capture_credit_clock;
	u64 preempted_credit_clock;
	/* The longest wait of this poll whose waker was told. */
	u64 told_wait_ns;
	u64 last_sample_clock;
	s32 last_syscall;
	/* Which of the two buffers holds the stack worth keeping / the newest one. */
	u32 kept;
	u32 kept_valid;
	u32 newest_valid;
	u32 sample_valid;
	u32 kept_site;
	struct hud_park parks[2];
	u32 next_park;
	/* How often a slow poll ended nobody knows when between two samples. */
	u32 unsure_edges;
	struct hud_usage usage;
	char comm[HUD_COMM];
	struct hud_poll poll;
};

enum hud_event_kind {
	HUD_EVENT_STACK = 1,
	HUD_EVENT_POLL_END = 2,
	HUD_EVENT_THREAD_EXIT = 3,
	HUD_EVENT_EXEC = 4,
	HUD_EVENT_RELEASE = 5,
	/* A sample of all poll time: a struct hud_stack_event. */
	HUD_EVENT_PROFILE = 6,
	/*
	 * Of a thread that is not known to be a worker, or of a worker in a place that is not
	 * known: a struct hud_stack_event.
	 */
	HUD_EVENT_STRANGER = 7,
};

struct hud_event_header {
	u32 kind;
	u32 tid;
	u64 clock;
	u64 mono;
};

enum hud_stack_kind {
	/* Sampled while running. */
	HUD_STACK_SAMPLE = 0,
	/* Taken as the thread fell asleep. */
	HUD_STACK_BLOCKED = 1,
	/* Taken as the thread lost the CPU. */
	HUD_STACK_PREEMPTED = 2,
};

/* A stack inside a poll: all but the stack's bytes. */
struct hud_stack_head {
	struct hud_event_header header;
	/* The poll, and its times up to this capture. */
	u64 poll_sequence;
	u64 task;
	u64 start_clock;
	u64 on_cpu_ns;
	u64 run_queue_ns;
	u64 blocked_ns;
	/* User registers. */
	u64 ip;
	u64 sp;
	u64 fp;
	u64 lr;
	u32 stack_kind;
	u32 poll_flags;
	/* HUD_STACK_BLOCKED: the place. Its times are as of the capture. */
	struct hud_site site;
	u64 kernel[HUD_KERNEL_FRAMES];
	/*
	 * Where it is in `kernel`, the frames up to it are those of the interrupt that took the
	 * sample; where it is the last, user mode was interrupted.
	 */
	u64 interrupt_entry;
	/* HUD_EVENT_PROFILE: the CPU time inside polls that the stack stands for. */
	u64 profile_ns;
	u32 kernel_count;
	u32 stack_bytes;
	/* Address of the first byte. */
	u64 stack_base;
};

/* `stack` is sent only as far as it was filled. */
struct hud_stack_event {
	struct hud_stack_head head;
	u8 stack[HUD_STACK_BYTES];
};

/* The captures of one worker that wait for its poll to turn out slow. */
struct hud_captures {
	struct hud_stack_event blocked[2];
	struct hud_stack_event sample;
};

struct hud_poll_end_event {
	struct hud_event_header header;
	u64 end_clock;
	struct hud_poll poll;
};

struct hud_thread_exit_event {
	struct hud_event_header header;
	struct hud_usage usage;
};

/* How one thread ended another's wait. */
enum hud_release_kind {
	/* It woke the waiters of the futex that was waited for. */
	HUD_RELEASE_FUTEX = 1,
	/* It ended, and was waited for. */
	HUD_RELEASE_EXIT = 2,
	/* It used the other end of the pipe, socket or eventfd. */
	HUD_RELEASE_FILE = 3,
};

/* The innermost part of a thread's user stack, at some moment. */
struct hud_other_stack {
	u32 tid;
	u32 seen_as;
	u64 clock;
	/* Voluntary context switches of its life. */
	u64 switches;
	u64 ip;
	u64 sp;
	u64 fp;
	u64 lr;
	u64 arg0;
	s32 syscall;
	u32 stack_bytes;
	/* Address of the first byte. */
	u64 stack_base;
	u64 credit_clock;
	u8 stack[HUD_OTHER_BYTES];
};

/* A long wait inside a poll (of header.tid) was ended by another thread of the process. */
struct hud_release_event {
	struct hud_event_header header;
	u64 poll_sequence;
	/* How long this one wait was. */
	u64 wait_ns;
	u64 waited_for; /* the futex's address, or the descriptor */
	u32 release_kind;
	/* `meanwhile` holds the waker's last stack of the time that was waited. */
	u32 has_meanwhile;
	char comm[HUD_COMM];
	struct hud_other_stack at_wake;
	struct hud_other_stack meanwhile;
};

/* What the kernel side knows it lost. */
struct hud_losses {
	u64 ring_full;
	u64 stack_overwritten;
	u64 stack_unreadable;
	u64 worker_untracked;
};

/* Every enum of this file, for the generated Rust: its constants are taken from there. */
struct hud_enums {
	enum hud_read_sizes read_sizes;
	enum hud_phase phase;
	enum hud_seen seen;
	enum hud_flavor flavor;
	enum hud_poll_flags poll_flags;
	enum hud_event_kind event_kind;
	enum hud_stack_kind stack_kind;
	enum hud_release_kind release_kind;
};

/* How often the dearer paths were taken: for the benches and for hud's own view. */
struct hud_work {
	u64 reads;
	u64 captures;
	u64 samples;
	u64 releases;
	/* Waits that make up a good part of the threshold, in polls that are slow by then. */
	u64 long_waits;
};

/* One thread as the task iterator sees it. */
struct hud_task {
	u32 tid;
	u32 state;
	u64 thread_pointer;
	u64 ip;
	u64 sp;
	u64 fp;
	u64 lr;
	u64 args[3];
	s64 syscall;
	u64 switches; /* voluntary and not: unchanged means it has not run since */
	u64 run_delay;
	u64 sum_exec;
	u64 last_arrival;
	/* When it last left the CPU, on the scheduler's task clock. */
	u64 exec_start;
	u16 fd_mode;
	u8 in_iowait;
	u8 has_children;
	u32 on_cpu; /* it runs right now */
	char comm[HUD_COMM];
};

#endif
