/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The interface between hud's BPF programs and its user space.
 *
 * The Rust types are generated from this file, so nothing is declared twice. Fields have fixed
 * widths and structs have no implicit padding. Durations (`_ns`) are in nanoseconds. Points in time
 * are nanoseconds too: `_clock` on the scheduler's clock (rq->clock), which a switch brings up to
 * date at no cost, `mono` on CLOCK_MONOTONIC. Events carry both, so that user space can convert.
 */
#ifndef HUD_H
#define HUD_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

/* Limit of one capture of a user stack. Copies end at the top of the stack; most are far smaller.
 */
#define HUD_STACK_PAGES 32
#define HUD_PAGE 4096
#define HUD_STACK_BYTES (HUD_STACK_PAGES * HUD_PAGE)
#define HUD_KERNEL_FRAMES 32
/* Sites kept per poll; the last one sums up all that do not fit. */
#define HUD_SITES 8
#define HUD_COMM 16
/* Limit of a partial stack: the innermost frames of a thread that ended a wait. */
#define HUD_PARTIAL_PAGES 4
#define HUD_PARTIAL_BYTES (HUD_PARTIAL_PAGES * HUD_PAGE)
#define HUD_PARK_SIGNATURES 2

/* Bytes read of Tokio's Context, and of its scheduler::Context. */
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
	/* 0: only one flavor is compiled in, and there is no discriminant. */
	u32 has_flavor;
	/* With own_thread_locals: each flavor's pointer to its scheduler; 0: none. */
	s64 current_thread_scheduler;
	s64 multi_thread_scheduler;
	/* Before Tokio 1.29, Context has no `scheduler`; each flavor has a thread-local of its own.
	 */
	u32 own_thread_locals;
	/* 0 before Tokio 1.22: the remaining budget distinguishes polls of the same tick instead.
	 */
	u32 has_task_id;
	/* Root futures: `runtime` and `handle` in Context. 0: their places are not known. */
	u32 has_root;
	u32 runtime;
	u32 handle;
	u32 unused;
};

/* Offsets of Core::tick. User space corrects a guessed one when that flavor starts later. */
struct hud_core_ticks {
	u32 current_thread;
	u32 multi_thread;
};

/*
 * Tier 4 (frames.bpf.h), all of it: these limits and structs, and in the structs below the fields
 * marked "tier 4".
 */
enum hud_frame_limits {
	HUD_FRAME_PATHS = 4,
	/* Return addresses that identify a path, and the variants of each. */
	HUD_FRAME_LEVELS = 3,
	HUD_FRAME_VARIANTS = 4,
	HUD_FRAME_COUNTERS = 16,
};

/* A number in a worker's memory that grows with each scheduling round. */
struct hud_frame_counter {
	/* Stack slot that holds a pointer: bytes above the path's base. */
	u32 pointer;
	/* The number: bytes above that pointer. */
	u32 offset;
};

/*
 * One path of calls from a worker's loop into a poll: three return addresses on the stack, at the
 * same distances from each other in every thread that takes the path. The base of the path is the
 * address of the innermost one.
 */
struct hud_frame_path {
	/* Bytes above the base, innermost first. */
	u32 slots[HUD_FRAME_LEVELS];
	u32 flavor;
	/* The return addresses found in each slot; 0: unused. */
	u64 returns[HUD_FRAME_LEVELS][HUD_FRAME_VARIANTS];
	/* Return addresses found in the second slot while the loop parks. */
	u64 park_returns[HUD_FRAME_VARIANTS];
	u32 counter_count;
	/* Stack slot of the pointer to the worker's core, bytes above the base; 0: not known. */
	u32 core;
	struct hud_frame_counter counters[HUD_FRAME_COUNTERS];
};

/* Set before the programs are loaded, constant afterwards. */
struct hud_config {
	struct hud_tokio tokio;
	u64 threshold_ns;
	/* The longest time between two samples of a running thread. */
	u64 sample_period_ns;
	/* Period of the scheduler's tick; 0: not used. */
	u64 tick_ns;
	u32 tgid;
	u32 own_tgid;
	/* Profile of all poll time: one stack is sent per this many samples of a thread in polls.
	 */
	u32 profile_stride;
	/* Tier 4: polls are identified by `frame_paths`, not by Tokio's state. */
	u32 by_frames;
};

/* What distinguishes the scheduler's tick from other timers. */
struct hud_tick {
	u64 expires;
	/* The timer's callback, the same on all CPUs. */
	u64 function;
	/* Outermost kernel frame of a tick that interrupts user mode. */
	u64 user_entry;
	/* Ticks that confirmed the values above, less those that contradicted them. */
	u64 confirmed;
};

/* What a worker was doing when last observed. */
enum hud_phase {
	HUD_PHASE_UNKNOWN = 0,
	/* It holds no core: in block_in_place, or while the core is handed over. */
	HUD_PHASE_DETACHED = 1,
	/* It holds a core and polls nothing: parked, or between polls. */
	HUD_PHASE_IDLE = 2,
	HUD_PHASE_POLL = 3,
};

/* How a thread stood with the scheduler when observed. */
enum hud_observed {
	/* On the CPU: a sample. */
	HUD_OBSERVED_RUNNING = 0,
	/* Switched out: preempted, asleep, or stopped by a signal or a debugger. */
	HUD_OBSERVED_RUNNABLE = 1,
	HUD_OBSERVED_BLOCKED = 2,
	HUD_OBSERVED_STOPPED = 3,
};

enum hud_flavor {
	HUD_FLAVOR_CURRENT_THREAD = 0,
	HUD_FLAVOR_MULTI_THREAD = 1,
	/* Not described by the layout in use. */
	HUD_FLAVOR_OTHER = 2,
	/* No worker: block_on polls a root future on this thread, outside of the scheduler. */
	HUD_FLAVOR_ROOT = 3,
};

enum hud_poll_flags {
	/* Under way when hud attached. */
	HUD_POLL_BEGAN_BEFORE = 1,
	/* CPU bandwidth control (a cgroup's quota) kept the thread off the CPU. */
	HUD_POLL_THROTTLED = 2,
	/* The poll passed the threshold; the captures kept for it have been sent. */
	HUD_POLL_SLOW = 4,
	/* Identified by its task id alone: the coop budget was not in force. */
	HUD_POLL_UNCONSTRAINED = 8,
	/* The hypervisor or interrupts took CPU time from the poll, counted as run queue. */
	HUD_POLL_STOLEN = 16,
};

/* A place where a poll blocks, identified by syscall, first argument and stack pointer. */
struct hud_site {
	u64 sp;
	u64 args[3];
	u64 blocked_ns;
	s32 syscall;
	/* The thread's last syscall but this one; it identifies a restarted one. */
	s32 previous_syscall;
	u32 count;
	/* i_mode of the file in argument 0 (or of the first pollfd); 0: none. */
	u16 fd_mode;
	u8 in_iowait;
	u8 has_children;
	/* The poll has a capture of this site. */
	u32 captured;
	u32 unused;
};

/* One poll of one task. */
struct hud_poll {
	u64 sequence; /* counts the thread's observed polls */
	u64 core;
	u64 task;	 /* 0: the root future of block_on */
	u64 start_clock; /* estimated, no later than first_seen_clock */
	u64 first_seen_clock;
	u64 on_cpu_ns;
	/* The part of on_cpu_ns before the first observation and after the last one. */
	u64 estimated_ns;
	u64 run_queue_ns;
	u64 blocked_ns;
	u64 stopped_ns;
	/* The part of run_queue_ns in waits of less than WAKE_DELAY_NS right after a wake-up. */
	u64 wake_delay_ns;
	/* Page faults from the observation before the poll on. */
	u64 faults;
	u32 tick;
	u32 flags;
	u32 site_count;
	/* The remaining coop budget where Tokio has no task ids; else 0. */
	u32 budget_left;
	struct hud_site sites[HUD_SITES];
};

/* What a park looks like from the kernel: identifies one without reading the target's memory. */
struct hud_park_signature {
	u64 sp;
	u64 arg0;
	s32 syscall;
	u32 uses;
};

/* A worker's time since hud attached. */
struct hud_usage {
	u64 on_cpu_ns;
	u64 run_queue_ns;
	u64 blocked_ns; /* asleep inside a poll */
	u64 parked_ns;
	u64 polls_observed;
	u64 longest_poll_ns;
};

/*
 * The state of one worker thread, in a map that user space maps too.
 *
 * A seqlock guards the fields down to `poll`: `sequence` is odd while the kernel side writes them
 * (begin_write and end_write in thread.bpf.h). Only the CPU that runs the thread writes them.
 */
struct hud_thread {
	u32 sequence;
	u32 tid; /* 0: the slot is free */
	u32 phase;
	u32 observed_as;
	u32 flavor;
	/* Index of the site it is asleep at; valid in a poll while observed_as is BLOCKED. */
	u32 site;
	/* Which captures of the open poll wait to be sent: see stack.bpf.h. */
	u32 newest_valid;
	u32 costliest_valid;
	u32 sample_valid;
	/* Slow polls whose end is uncertain by more than UNCERTAIN_NS.
	 */
	u32 uncertain_edges;
	u64 observed_clock;
	u64 scheduler;
	u64 thread_pointer;
	char comm[HUD_COMM];
	struct hud_usage usage;
	struct hud_poll poll;

	/* Written by user space at any time, a word at a time: not under the seqlock. */

	/* A perf clock of its own samples the thread, more often than slow polls need. */
	u32 has_own_clock;
	u32 unused;
	/* Tier 4: the base of each path on the thread's stack; 0: it does not take the path. */
	u64 frame_bases[HUD_FRAME_PATHS];

	/* Used by the kernel side alone. */

	/* Switches were skipped since the last observation. */
	u32 skipped;
	s32 last_syscall;
	/* Set by user space before hud attached, at this many context switches less 1; else 0. */
	u64 seeded;
	/* The scheduler's counters at the last observation. */
	u64 observed_run_delay;
	u64 observed_exec;
	u64 observed_faults; /* 0: not known */
	/* CPU time when it last left the CPU (0: not known), and the stint on the CPU since. */
	u64 switched_out_exec;
	u64 stint_arrival;
	u64 stint_stolen;
	/* Task id in Context while it polls nothing, and the core it had then (0: not known). */
	u64 idle_task;
	u64 idle_core;
	/* The core whose tick was read last (0: none), the tick, and the CPU time since. */
	u64 tick_core;
	u64 tick_on_cpu_ns;
	u32 tick;
	/* All poll time: samples inside polls that no stack was sent for yet. */
	u32 profile_samples;
	u64 profiled_cpu_ns; /* usage.on_cpu_ns at the last sample */
	u64 profile_ns;	     /* CPU time in polls that no stack was sent for yet */
	/* Mean CPU time of a scheduling round. */
	u64 mean_poll_ns;
	/* Mean of the rounds just before the open poll; used if that poll is not slow. 0: none. */
	u64 round_ns;
	/* Shortest times observed from a wake-up to a poll, and from a poll to a park; 0: none. */
	u64 wake_to_poll_ns;
	u64 poll_to_park_ns;
	/* The last sample that was used, and the last one by a perf clock, used or not. */
	u64 sampled_clock;
	u64 interrupted_clock;
	/* The last sample whose stack was kept for the open poll. */
	u64 captured_clock;
	/* Credits of take_credit. */
	u64 read_credit_clock;
	u64 capture_credit_clock;
	u64 preempted_credit_clock;
	/* Longest wait of the open poll whose end was reported. */
	u64 released_wait_ns;
	/* Index of the buffer with the costliest blocked stack, and its site. */
	u32 costliest;
	u32 costliest_site;
	u32 next_park;
	u32 unused2;
	struct hud_park_signature parks[HUD_PARK_SIGNATURES];
};

enum hud_event_kind {
	HUD_EVENT_STACK = 1,
	HUD_EVENT_POLL_END = 2,
	HUD_EVENT_THREAD_EXIT = 3,
	HUD_EVENT_EXEC = 4,
	HUD_EVENT_RELEASE = 5,
	/* A sample for the profile of all poll time: a struct hud_stack_event. */
	HUD_EVENT_PROFILE = 6,
	/* Tier 4: a stack that no path explains: a struct hud_stack_event. */
	HUD_EVENT_UNKNOWN_FRAMES = 7,
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

/* A captured stack without the stack's bytes. */
struct hud_stack_head {
	struct hud_event_header header;
	/* The poll, with its times up to this capture. */
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
	/* HUD_STACK_BLOCKED: the site, with its times up to this capture. */
	struct hud_site site;
	u64 kernel[HUD_KERNEL_FRAMES];
	/*
	 * If `kernel` holds this address, the frames up to it belong to the interrupt that took the
	 * sample; if it is the last one, user mode was interrupted.
	 */
	u64 interrupt_entry;
	/* HUD_EVENT_PROFILE: the CPU time inside polls that the stack stands for. */
	u64 profile_ns;
	u32 kernel_count;
	u32 stack_bytes;
	/* Address of the first byte. */
	u64 stack_base;
};

/* Only the filled part of `stack` is sent. */
struct hud_stack_event {
	struct hud_stack_head head;
	u8 stack[HUD_STACK_BYTES];
};

/* The captures of one worker that are kept until its poll turns out slow, or ends. */
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
	/* It woke the waiters of the same futex. */
	HUD_RELEASE_FUTEX = 1,
	/* It exited while the other waited for that. */
	HUD_RELEASE_EXIT = 2,
	/* It used the other end of the pipe, socket or eventfd. */
	HUD_RELEASE_FILE = 3,
};

/* The innermost part of a thread's user stack at one moment. */
struct hud_partial_stack {
	u32 tid;
	u32 observed_as;
	u64 clock;
	u64 switches; /* the thread's voluntary context switches */
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
	u8 stack[HUD_PARTIAL_BYTES];
};

/* Another thread of the process ended a long wait inside a poll (of header.tid). */
struct hud_release_event {
	struct hud_event_header header;
	u64 poll_sequence;
	/* Length of this one wait. */
	u64 wait_ns;
	u64 waited_for; /* the futex's address, or the descriptor */
	u32 release_kind;
	/* `during_wait` holds the waker's last stack from the time of the wait. */
	u32 has_during_wait;
	char comm[HUD_COMM];
	struct hud_partial_stack at_wake;
	struct hud_partial_stack during_wait;
};

/* What the kernel side had to drop. */
struct hud_losses {
	u64 ring_full;
	u64 stack_unreadable;
	u64 worker_untracked;
};

/* How often the expensive paths ran: for the benches and hud's own view. */
struct hud_work {
	u64 reads;
	u64 captures;
	u64 samples;
	u64 releases;
	/* Waits of a good part of the threshold, in polls that were slow when they ended. */
	u64 long_waits;
};

/* One thread as the task iterator reads it. */
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
	u64 switches; /* voluntary and involuntary: if unchanged, it has not run since */
	u64 run_delay;
	u64 sum_exec;
	u64 last_arrival;
	/* When it last left the CPU, on the run queue's task clock. */
	u64 exec_start;
	u16 fd_mode;
	u8 in_iowait;
	u8 has_children;
	u32 on_cpu; /* it is running now */
	char comm[HUD_COMM];
};

/* Every enum of this file: the Rust constants are generated from the fields' types. */
struct hud_enums {
	enum hud_read_sizes read_sizes;
	enum hud_frame_limits frame_limits;
	enum hud_phase phase;
	enum hud_observed observed;
	enum hud_flavor flavor;
	enum hud_poll_flags poll_flags;
	enum hud_event_kind event_kind;
	enum hud_stack_kind stack_kind;
	enum hud_release_kind release_kind;
};

#endif
