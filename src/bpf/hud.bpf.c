// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * hud's programs: at every switch away from a thread of the target, at every wake-up of one, at
 * samples of running ones (sample.bpf.h), and when threads exit. docs/ARCHITECTURE.md has the flow.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "hud.h"
#include "compat.bpf.h"
#include "arch.bpf.h"
#include "state.bpf.h"
#include "thread.bpf.h"
#include "tokio.bpf.h"
#include "stack.bpf.h"
#include "frames.bpf.h"
#include "poll.bpf.h"
#include "stolen.bpf.h"
#include "site.bpf.h"
#include "waker.bpf.h"
#include "worker.bpf.h"
#include "sample.bpf.h"

/* Rate limit of full observations of a runnable thread. */
#define RUNNABLE_EVERY_NS (500 * 1000ull)
#define RUNNABLE_BURST 8
/* Rate limit of stacks of preempted polls, which only make up for missing samples. */
#define PREEMPTED_EVERY_NS (4 * 1000 * 1000ull)
#define PREEMPTED_BURST 8
/* A park recognised by its signature is read in full every so many times. */
#define PARK_VERIFY_EVERY 256
/* ... and if the thread was in a poll and has run for longer than this since. */
#define PARK_FOLLOWS_NS (100 * 1000ull)

#define TASK_STOPPED_OR_TRACED 0xc

/* The signature that this sleep matches, or NULL. */
static __always_inline struct hud_park_signature *find_park(struct hud_thread *thread,
							    struct user_regs *regs)
{
	for (int i = 0; i < HUD_PARK_SIGNATURES; i++) {
		struct hud_park_signature *park = &thread->parks[i];

		if (park->uses && park->sp == regs->sp && park->syscall == regs->syscall &&
		    park->arg0 == regs->args[0])
			return park;
	}
	return NULL;
}

/* Records the signature of a park that was read in full. */
static __always_inline void learn_park(struct hud_thread *thread, struct user_regs *regs,
				       struct tokio_state *state)
{
	struct hud_park_signature *park = find_park(thread, regs);

	/* Only the driver waits in epoll: the task id in Context is the idle one. */
	if (is_epoll(regs->syscall)) {
		thread->idle_task = state->task;
		thread->idle_core = state->core;
	}
	if (park)
		return;
	park = &thread->parks[thread->next_park++ % HUD_PARK_SIGNATURES];
	park->sp = regs->sp;
	park->arg0 = regs->args[0];
	park->syscall = regs->syscall;
	park->uses = 1;
}

/*
 * Observes `prev`, which leaves the CPU. Its state is `thread` (a write of it has begun) or NULL.
 * Returns its state, which may be new.
 */
static __always_inline struct hud_thread *observe_switch(u64 *ctx, struct task_struct *prev,
							 struct hud_thread *thread, u32 *index,
							 struct observation *at)
{
	bool blocked = at->as == HUD_OBSERVED_BLOCKED, long_in_poll;
	struct hud_park_signature *park;
	struct tokio_state state;
	struct user_regs regs;
	u64 thread_pointer;

	read_user_regs(prev, &regs);
	if (thread) {
		at->stolen = stolen_until_switch(thread, at);
		if (thread->seeded)
			validate_seed(thread, prev->nvcsw + prev->nivcsw - 1, at);
		long_in_poll = thread->phase == HUD_PHASE_POLL &&
			       at->now - at->arrival > PARK_FOLLOWS_NS &&
			       at->now - thread->observed_clock > PARK_FOLLOWS_NS;
		park = find_park(thread, &regs);
		if (at->as != HUD_OBSERVED_RUNNABLE && park && !long_in_poll &&
		    ++park->uses % PARK_VERIFY_EVERY) {
			__builtin_memset(&state, 0, sizeof(state));
			state.phase = HUD_PHASE_IDLE;
			observe(thread, *index, at, &state);
			return thread;
		}
	}

	thread_pointer = prev->THREAD_POINTER;
	if (!thread_pointer)
		return thread;
	compare_clocks(at->now);
	count(work.reads);
	if (read_worker(thread_pointer, thread, regs.sp, at->as, &state)) {
		if (thread) {
			state.phase = HUD_PHASE_UNKNOWN;
			observe(thread, *index, at, &state);
		} else if (state.flavor == HUD_FLAVOR_OTHER) {
			count_untracked(prev->pid);
		}
		return thread;
	}
	if (!thread) {
		if (!state.scheduler) {
			if (blocked)
				record_last_stack(&regs, prev->pid, prev->nvcsw, at->as, at->now);
			return NULL;
		}
		thread = add_worker(prev, index, at, thread_pointer);
		if (!thread)
			return NULL;
	}
	thread->scheduler = state.scheduler;
	thread->flavor = state.flavor;
	report_unknown_frames(&state, &regs, prev->pid, at->now);
	if (state.phase == HUD_PHASE_IDLE && blocked && !state.unknown_frames)
		learn_park(thread, &regs, &state);
	else if (state.phase == HUD_PHASE_POLL && blocked && is_epoll(regs.syscall) &&
		 !state.constrained)
		/* The core came from another thread, and the idle task id changed with it. */
		state.phase = HUD_PHASE_IDLE;
	if (!observe(thread, *index, at, &state))
		return thread;
	if (blocked) {
		record_last_stack(&regs, prev->pid, prev->nvcsw, at->as, at->now);
		enter_site(thread, prev, &regs);
		if (thread->site < HUD_SITES && !thread->poll.sites[thread->site].captured &&
		    may_capture(thread, at->now))
			capture_blocked(ctx, thread, *index, &regs, at->now);
		if (regs.syscall != SYSCALL_RESTART)
			thread->last_syscall = regs.syscall;
	} else if (at->as == HUD_OBSERVED_RUNNABLE) {
		if (is_throttled(prev))
			thread->poll.flags |= HUD_POLL_THROTTLED;
		if (!thread->sample_valid && should_capture_running(thread, at->now) &&
		    take_credit(&thread->preempted_credit_clock, at->now, PREEMPTED_EVERY_NS,
				PREEMPTED_BURST)) {
			capture_running(ctx, thread, *index, &regs, at->now);
			keep_sample(thread, *index, at->now);
		}
	}
	return thread;
}

SEC("tp_btf/sched_switch")
int sched_switch(u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1];
	struct hud_thread *thread;
	struct observation at;
	u32 index = 0, left_as;

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
			thread->switched_out_exec = prev->se.sum_exec_runtime;
			return 0;
		}
	}
	at.arrival = prev->sched_info.last_arrival;
	at.run_delay = prev->sched_info.run_delay;
	at.exec = prev->se.sum_exec_runtime;
	at.faults = prev->min_flt + prev->maj_flt;
	at.stolen = 0;
	at.unused = 0;
	at.as = !left_as			   ? HUD_OBSERVED_RUNNABLE
		: left_as & TASK_STOPPED_OR_TRACED ? HUD_OBSERVED_STOPPED
						   : HUD_OBSERVED_BLOCKED;
	if (thread)
		begin_write(thread);
	thread = observe_switch(ctx, prev, thread, &index, &at);
	if (thread)
		end_write(thread);
	return 0;
}

/* Attached only at the start: any switch compares the clocks. */
SEC("tp_btf/sched_switch")
int compare(u64 *ctx)
{
	if (!compared_at)
		compare_clocks(switch_clock((void *)ctx[1]));
	return 0;
}

/*
 * The current thread wakes `waiter`. This runs at every wake-up of the machine, so it returns early
 * for other processes' threads and for those that are not asleep inside a poll.
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
	if (!thread || thread->phase != HUD_PHASE_POLL ||
	    thread->observed_as != HUD_OBSERVED_BLOCKED)
		return 0;
	/* The state is out of date if the thread has run since. */
	if (waiter->sched_info.last_arrival > thread->observed_clock ||
	    (thread->seeded && waiter->nvcsw + waiter->nivcsw != thread->seeded - 1))
		return 0;
	report_release(waiter, thread);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int sched_process_exit(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct hud_thread_exit_event *event;
	struct tokio_state state = {};
	struct hud_thread *thread;
	struct observation at;
	u32 index = 0, key;
	u16 *slot;

	if (task->tgid != config.tgid)
		return 0;
	key = task->pid;
	thread = find_thread(key, &index);
	/* From here on no interrupt or switch finds the state: this program alone writes it. */
	slot = bpf_map_lookup_elem(&slots, &key);
	if (slot)
		*slot = 0;
	if (!thread)
		return 0;
	begin_write(thread);
	at.now = clock_now();
	read_counters_of(task, &at);
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
	end_write(thread);
	bpf_map_push_elem(&free_slots, &index, 0);
	return 0;
}

/* The process runs another program now: Tokio's layout no longer holds. */
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
	fill_header(event, HUD_EVENT_EXEC, task->pid, clock_now());
	bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
