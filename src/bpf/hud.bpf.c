// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What hud runs in the kernel: at every switch away from a thread of the target and every wake-up
 * of one, at every tick of the CPU clock, and when threads end. See docs/ARCHITECTURE.md for the
 * flow.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "hud.h"
#include "compat.bpf.h"
#include "arch.bpf.h"
#include "state.bpf.h"
#include "tokio.bpf.h"
#include "stack.bpf.h"
#include "frames.bpf.h"
#include "poll.bpf.h"
#include "stolen.bpf.h"
#include "site.bpf.h"
#include "waker.bpf.h"

/* A thread that could go on is read in full at most this often on average, and a burst of these. */
#define RUNNABLE_EVERY_NS (500 * 1000ull)
#define RUNNABLE_BURST 8
/* Stacks of preempted polls are a stopgap for samples: they are taken more rarely still. */
#define PREEMPTED_EVERY_NS (4 * 1000 * 1000ull)
#define PREEMPTED_BURST 8
/* A recognised park is read in full every so many times. */
#define PARK_VERIFY_EVERY 256
/* A poll's end is taken to be its park when the thread ran no longer than this in between. */
#define PARK_FOLLOWS_NS (100 * 1000ull)

#define TASK_STOPPED_OR_TRACED 0xc

/* The park this sleep is known to be, or NULL. */
static __always_inline struct hud_park *find_park(struct hud_thread *thread, struct user_regs *regs)
{
	for (int i = 0; i < 2; i++) {
		struct hud_park *park = &thread->parks[i];

		if (park->uses && park->sp == regs->sp && park->syscall == regs->syscall &&
		    park->arg0 == regs->args[0])
			return park;
	}
	return NULL;
}

/* Remembers what this worker's park looks like from the kernel. */
static __always_inline void learn_park(struct hud_thread *thread, struct user_regs *regs,
				       struct tokio_state *state)
{
	struct hud_park *park = find_park(thread, regs);

	/* Nobody but the driver waits in epoll: now the id in Context is the idle one. */
	if (is_epoll(regs->syscall)) {
		thread->idle_task = state->task;
		thread->idle_core = state->core;
	}
	if (park)
		return;
	park = &thread->parks[thread->next_park & 1];
	thread->next_park++;
	park->sp = regs->sp;
	park->arg0 = regs->args[0];
	park->syscall = regs->syscall;
	park->uses = 1;
}

/* A thread that turns out to run a scheduler gets its state; its time starts with this stint. */
static __noinline struct hud_thread *meet_thread(struct task_struct *task, u32 *index,
						 struct moment *at, u64 thread_pointer)
{
	struct hud_thread *thread = add_thread(BPF_CORE_READ(task, pid), index);

	if (!thread)
		return NULL;
	thread->thread_pointer = thread_pointer;
	thread->seen_clock = at->arrival;
	thread->delay_seen = at->delay;
	thread->exec_seen = at->exec;
	thread->faults_seen = at->faults;
	thread->seen_as = HUD_SEEN_SAMPLED;
	bpf_probe_read_kernel_str(thread->comm, sizeof(thread->comm), &task->comm);
	return thread;
}

/*
 * A state that was set before hud attached holds only if the thread has not run since: at its first
 * observation it must still count as many context switches.
 */
static __always_inline void check_seed(struct hud_thread *thread, u64 switches, struct moment *at)
{
	if (switches != thread->seeded - 1) {
		thread->phase = HUD_PHASE_UNKNOWN;
		thread->seen_as = HUD_SEEN_SAMPLED;
		thread->seen_clock = at->arrival;
		thread->delay_seen = at->delay;
		thread->exec_seen = at->exec;
	}
	thread->faults_seen = 0;
	thread->seeded = 0;
}

SEC("tp_btf/sched_switch")
int sched_switch(u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1];
	struct tokio_state state;
	struct hud_thread *thread;
	struct hud_park *park;
	struct user_regs regs;
	struct moment at;
	u64 thread_pointer;
	u32 index = 0, left_as;
	bool long_since;

	if (prev->tgid != config.tgid)
		return 0;
	left_as = switch_state(ctx, prev);
	thread = find_thread(prev->pid, &index);
	at.now = switch_clock(prev);
	if (!left_as) {
		if (!thread)
			return 0;
		if (!take_credit(&thread->read_credit_clock, at.now, RUNNABLE_EVERY_NS,
				 RUNNABLE_BURST)) {
			thread->skipped = 1;
			thread->exec_out = prev->se.sum_exec_runtime;
			return 0;
		}
	}
	at.arrival = prev->sched_info.last_arrival;
	at.delay = prev->sched_info.run_delay;
	at.exec = prev->se.sum_exec_runtime;
	at.faults = prev->min_flt + prev->maj_flt;
	at.stolen = 0;
	at.unused = 0;
	at.seen_as = !left_as				? HUD_SEEN_RUNNABLE
		     : left_as & TASK_STOPPED_OR_TRACED ? HUD_SEEN_STOPPED
							: HUD_SEEN_BLOCKED;
	read_user_regs(prev, &regs);
	long_since = false;
	if (thread) {
		at.stolen = stolen_until_switch(thread, &at);
		if (thread->seeded)
			check_seed(thread, prev->nvcsw + prev->nivcsw - 1, &at);
		long_since = thread->phase == HUD_PHASE_POLL &&
			     at.now - at.arrival > PARK_FOLLOWS_NS &&
			     at.now - thread->seen_clock > PARK_FOLLOWS_NS;
		park = find_park(thread, &regs);
		if (left_as && park && !long_since && ++park->uses % PARK_VERIFY_EVERY) {
			__builtin_memset(&state, 0, sizeof(state));
			state.phase = HUD_PHASE_IDLE;
			observe(thread, index, &at, &state);
			return 0;
		}
	}

	thread_pointer = prev->THREAD_POINTER;
	if (!thread_pointer)
		return 0;
	compare_clocks(at.now);
	count(work.reads);
	if (read_worker(thread_pointer, thread, regs.sp, at.seen_as, &state)) {
		if (thread) {
			state.phase = HUD_PHASE_UNKNOWN;
			observe(thread, index, &at, &state);
		} else if (state.flavor == HUD_FLAVOR_OTHER) {
			leave_untracked(prev->pid);
		}
		return 0;
	}
	if (!thread) {
		if (!state.scheduler) {
			if (at.seen_as == HUD_SEEN_BLOCKED)
				remember_stack(&regs, prev->pid, prev->nvcsw, at.seen_as, at.now);
			return 0;
		}
		thread = meet_thread(prev, &index, &at, thread_pointer);
		if (!thread)
			return 0;
	}
	thread->scheduler = state.scheduler;
	thread->flavor = state.flavor;
	if (state.doubtful)
		send_stranger(&regs, prev->pid, at.now);
	else if (state.phase == HUD_PHASE_IDLE && at.seen_as == HUD_SEEN_BLOCKED)
		learn_park(thread, &regs, &state);
	else if (state.phase == HUD_PHASE_POLL && at.seen_as == HUD_SEEN_BLOCKED &&
		 is_epoll(regs.syscall) && !state.constrained)
		/* The core came to another thread: its idle id is a new one. */
		state.phase = HUD_PHASE_IDLE;
	if (!observe(thread, index, &at, &state))
		return 0;
	if (at.seen_as == HUD_SEEN_BLOCKED) {
		remember_stack(&regs, prev->pid, prev->nvcsw, at.seen_as, at.now);
		enter_site(thread, prev, &regs);
		if (thread->site < HUD_SITES && !thread->poll.sites[thread->site].captured &&
		    may_capture(thread, at.now))
			capture_blocked(ctx, thread, index, &regs, at.now);
		if (regs.syscall != SYSCALL_RESTART)
			thread->last_syscall = regs.syscall;
	} else if (at.seen_as == HUD_SEEN_RUNNABLE) {
		if (is_throttled(prev))
			thread->poll.flags |= HUD_POLL_THROTTLED;
		if (!thread->sample_valid && wants_running_stack(thread, at.now) &&
		    take_credit(&thread->preempted_credit_clock, at.now, PREEMPTED_EVERY_NS,
				PREEMPTED_BURST)) {
			capture_running(ctx, thread, index, &regs, at.now);
			keep_running(thread, index, at.now);
		}
	}
	return 0;
}

/* Attached for a moment at the start: one switch of anything compares the clocks. */
SEC("tp_btf/sched_switch")
int compare(u64 *ctx)
{
	if (!compared_at)
		compare_clocks(switch_clock((void *)ctx[1]));
	return 0;
}

/* What the scheduler knows of a thread that runs. Not inlined, for the stack's sake. */
static __noinline int read_moment(struct task_struct *task, struct moment *at)
{
	at->arrival = BPF_CORE_READ(task, sched_info.last_arrival);
	at->delay = BPF_CORE_READ(task, sched_info.run_delay);
	at->exec = BPF_CORE_READ(task, se.sum_exec_runtime);
	at->faults = BPF_CORE_READ(task, min_flt) + BPF_CORE_READ(task, maj_flt);
	at->stolen = 0;
	at->seen_as = HUD_SEEN_SAMPLED;
	at->unused = 0;
	return 0;
}

/* A look at a thread that runs: sees polls that compute and never leave the CPU. */
static __noinline int sample(void *ctx, struct task_struct *task, bool by_tick)
{
	struct tokio_state state;
	struct hud_thread *thread;
	struct user_regs regs;
	struct moment at;
	u64 thread_pointer, last = 0;
	u32 index = 0;
	/* Code that wakes in step with the tick would meet it always or never. */
	bool profiled = profiling && !by_tick;
	bool due = true, in_poll;

	count(work.samples);
	at.now = bpf_ktime_get_ns() - mono_minus_clock;
	thread = find_thread((u32)bpf_get_current_pid_tgid(), &index);
	if (thread) {
		last = thread->sampled_clock;
		if (!by_tick) {
			if (thread->interrupted_clock > last)
				last = thread->interrupted_clock;
			thread->interrupted_clock = at.now;
		}
		/*
		 * Samples may come more often than slow polls need; all poll time counts each, and
		 * the edges of polls that follow one another come the closer.
		 */
		due = less(at.now, thread->sampled_clock) >= config.sample_period_ns / 4 * 3;
		if (!due && !profiled && !thread->closely)
			return 0;
		if (due)
			thread->sampled_clock = at.now;
	}
	read_moment(task, &at);
	at.stolen = !thread   ? 0
		    : by_tick ? stolen_until_now(thread, &at)
			      : stolen_until_interrupt(thread, last, &at);
	thread_pointer = BPF_CORE_READ(task, THREAD_POINTER);
	if (!thread_pointer)
		return 0;
	read_user_regs(task, &regs);
	if (read_worker(thread_pointer, thread, regs.sp, at.seen_as, &state))
		return 0;
	if (state.phase == HUD_PHASE_POLL || !state.scheduler)
		remember_stack(&regs, (u32)bpf_get_current_pid_tgid(), BPF_CORE_READ(task, nvcsw),
			       HUD_SEEN_SAMPLED, at.now);
	if (config.by_frames && !thread)
		return send_stranger(&regs, (u32)bpf_get_current_pid_tgid(), at.now);
	if (!thread) {
		if (!state.scheduler)
			return 0;
		thread = meet_thread(task, &index, &at, thread_pointer);
		if (!thread)
			return 0;
	}
	if (thread->seeded)
		check_seed(thread, BPF_CORE_READ(task, nvcsw) + BPF_CORE_READ(task, nivcsw), &at);
	thread->scheduler = state.scheduler;
	thread->flavor = state.flavor;
	if (state.doubtful)
		send_stranger(&regs, thread->tid, at.now);
	in_poll = observe(thread, index, &at, &state);
	if (!profiling)
		forget_profile(thread);
	profiled = profiled && wants_profile_stack(thread, in_poll);
	due = due && in_poll && wants_running_stack(thread, at.now);
	if (!due && !profiled)
		return 0;
	capture_running(ctx, thread, index, &regs, at.now);
	describe_running(index, task, &regs);
	if (due)
		keep_running(thread, index, at.now);
	if (profiled)
		send_profile(thread, index);
	return 0;
}

/*
 * A thread is being woken by the current one. In the path of every wake-up of the machine: threads
 * of others, and those that are not asleep inside a poll, are left at once.
 */
SEC("tp_btf/sched_waking")
int sched_waking(u64 *ctx)
{
	struct task_struct *waiter = (void *)ctx[0];
	struct hud_thread *thread;
	u32 index = 0;

	if (waiter->tgid != config.tgid || bpf_get_current_pid_tgid() >> 32 != config.tgid)
		return 0;
	thread = find_thread(waiter->pid, &index);
	if (!thread || thread->phase != HUD_PHASE_POLL || thread->seen_as != HUD_SEEN_BLOCKED)
		return 0;
	/* It must not have run since it fell asleep. */
	if (waiter->sched_info.last_arrival > thread->seen_clock ||
	    (thread->seeded && waiter->nvcsw + waiter->nivcsw != thread->seeded - 1))
		return 0;
	tell_release(waiter, thread);
	return 0;
}

/*
 * The scheduler's tick: comes anyhow on every busy CPU, and stops on idle ones. Only where it is
 * frequent enough and its looks could be learnt (user space decides). At its end, when it has
 * brought the thread's own clock up to date.
 */
SEC("tp_btf/hrtimer_expire_exit")
int tick(u64 *ctx)
{
	struct hrtimer *timer = (void *)ctx[0];

	if (bpf_get_current_pid_tgid() >> 32 != config.tgid)
		return 0;
	if ((u64)timer->function != tick_seen.function)
		return 0;
	return sample(ctx, bpf_get_current_task_btf(), true);
}

/*
 * Attached for a moment at the start, while hud does nothing but compute: learns the looks of the
 * tick. Its expiries lie whole periods apart, on all CPUs; those of hardly another timer do.
 */
SEC("tp_btf/hrtimer_expire_entry")
int learn_tick(u64 *ctx)
{
	struct hrtimer *timer = (void *)ctx[0];
	u64 frames[HUD_KERNEL_FRAMES], expires, entry;
	struct hud_tick *seen = &tick_seen;
	bool again;
	long bytes;
	u32 last;

	if (bpf_get_current_pid_tgid() >> 32 != config.own_tgid || !config.tick_ns)
		return 0;
	bytes = bpf_get_stack(ctx, frames, sizeof(frames), 0);
	if (bytes < (long)sizeof(u64) || bytes >= (long)sizeof(frames))
		return 0;
	last = bytes / sizeof(u64) - 1;
	entry = frames[last & (HUD_KERNEL_FRAMES - 1)];
	expires = timer->_softexpires;
	again = seen->function == (u64)timer->function && seen->user_entry == entry &&
		less(expires, seen->expires) % config.tick_ns == 0;
	if (again) {
		seen->confirmed++;
	} else if (seen->confirmed) {
		seen->confirmed--;
		return 0;
	}
	seen->expires = expires;
	seen->function = (u64)timer->function;
	seen->user_entry = entry;
	return 0;
}

/* perf's CPU clock, on every CPU: has timer interrupts of its own. */
SEC("perf_event")
int cpu_clock(void *ctx)
{
	struct task_struct *task;

	if (bpf_get_current_pid_tgid() >> 32 != config.tgid)
		return 0;
	if (has_task_pt_regs())
		task = bpf_get_current_task_btf();
	else
		task = (void *)bpf_get_current_task();
	return sample(ctx, task, false);
}

SEC("tp_btf/sched_process_exit")
int sched_process_exit(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct hud_thread_exit_event *event;
	struct tokio_state state = {};
	struct hud_thread *thread;
	struct moment at;
	u32 index = 0, key;
	u16 *slot;

	if (task->tgid != config.tgid)
		return 0;
	key = task->pid;
	thread = find_thread(key, &index);
	slot = bpf_map_lookup_elem(&slots, &key);
	if (slot)
		*slot = 0;
	if (!thread)
		return 0;
	at.now = bpf_ktime_get_ns() - mono_minus_clock;
	read_moment(task, &at);
	observe(thread, index, &at, &state);
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (event) {
		fill_header(&event->header, HUD_EVENT_THREAD_EXIT, key, at.now);
		event->usage = thread->usage;
		bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	} else {
		count(losses.ring_full);
	}
	thread->tid = 0;
	bpf_map_push_elem(&free_slots, &index, 0);
	return 0;
}

/* The process became another program: Tokio's layout no longer holds. */
SEC("tp_btf/sched_process_exec")
int sched_process_exec(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct hud_event_header *event;

	if (task->tgid != config.tgid)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count(losses.ring_full);
		return 0;
	}
	fill_header(event, HUD_EVENT_EXEC, task->pid, bpf_ktime_get_ns() - mono_minus_clock);
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
