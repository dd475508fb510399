/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Observes threads while they run: finds polls that compute and never leave the CPU.
 *
 * Samples come from the scheduler's tick or from perf clocks, as user space decides.
 */
#ifndef HUD_SAMPLE_BPF_H
#define HUD_SAMPLE_BPF_H

#include "frames.bpf.h"
#include "poll.bpf.h"
#include "site.bpf.h"
#include "stolen.bpf.h"
#include "waker.bpf.h"
#include "worker.bpf.h"

/* What one sample is used for. */
struct sample_use {
	bool by_tick;
	bool slow_polls;
	bool profile;
};

/*
 * Decides what to use a sample for; false: for nothing. Sets `*last` to the sample before it, by
 * the same clock or another.
 */
static __always_inline bool use_sample(struct hud_thread *thread, u64 now, struct sample_use *use,
				       u64 *last)
{
	*last = thread->sampled_clock;
	if (!use->by_tick) {
		if (thread->interrupted_clock > *last)
			*last = thread->interrupted_clock;
		thread->interrupted_clock = now;
	}
	/*
	 * Perf clocks may run faster than slow polls need. The profile uses every sample, and a
	 * clock of the thread's own is there to find the edges between its polls.
	 */
	use->slow_polls =
		saturating_sub(now, thread->sampled_clock) >= config.sample_period_ns / 4 * 3;
	if (use->slow_polls)
		thread->sampled_clock = now;
	return use->slow_polls || use->profile || thread->has_own_clock;
}

/* Reads the scheduler's counters of a running thread. Not inlined, to save stack. */
static __noinline int read_counters_of(struct task_struct *task, struct observation *at)
{
	at->arrival = BPF_CORE_READ(task, sched_info.last_arrival);
	at->run_delay = BPF_CORE_READ(task, sched_info.run_delay);
	at->exec = BPF_CORE_READ(task, se.sum_exec_runtime);
	at->faults = BPF_CORE_READ(task, min_flt) + BPF_CORE_READ(task, maj_flt);
	at->stolen = 0;
	at->as = HUD_OBSERVED_RUNNING;
	at->unused = 0;
	return 0;
}

/*
 * Observes the current thread, whose state is `thread` (a write of it has begun) or NULL. Returns
 * its state, which may be new.
 */
static __always_inline struct hud_thread *observe_running(void *ctx, struct task_struct *task,
							  struct hud_thread *thread, u32 *index,
							  struct observation *at,
							  struct sample_use *use)
{
	u32 tid = bpf_get_current_pid_tgid();
	struct tokio_state state;
	struct user_regs regs;
	u64 thread_pointer = BPF_CORE_READ(task, THREAD_POINTER);
	bool in_poll;

	if (!thread_pointer)
		return thread;
	read_user_regs(task, &regs);
	if (read_worker(thread_pointer, thread, regs.sp, at->as, &state))
		return thread;
	if (state.phase == HUD_PHASE_POLL || !state.scheduler)
		record_last_stack(&regs, tid, BPF_CORE_READ(task, nvcsw), at->as, at->now);
	report_unknown_frames(&state, &regs, tid, at->now);
	if (!thread) {
		if (!state.scheduler)
			return NULL;
		thread = add_worker(task, index, at, thread_pointer);
		if (!thread)
			return NULL;
	}
	if (thread->seeded)
		validate_seed(thread, BPF_CORE_READ(task, nvcsw) + BPF_CORE_READ(task, nivcsw), at);
	thread->scheduler = state.scheduler;
	thread->flavor = state.flavor;
	in_poll = observe(thread, *index, at, &state);
	if (!profiling)
		reset_profile(thread);
	use->profile = use->profile && should_send_profile(thread, in_poll);
	use->slow_polls = use->slow_polls && in_poll && should_capture_running(thread, at->now);
	if (!use->slow_polls && !use->profile)
		return thread;
	capture_running(ctx, thread, *index, &regs, at->now);
	describe_sample(*index, task, &regs);
	if (use->slow_polls)
		keep_sample(thread, *index, at->now);
	if (use->profile)
		send_profile(thread, *index);
	return thread;
}

static __noinline int sample(void *ctx, struct task_struct *task, bool by_tick)
{
	struct sample_use use = {
		.by_tick = by_tick,
		.slow_polls = true,
		/* Code that wakes in step with the tick would be interrupted always or never. */
		.profile = profiling && !by_tick,
	};
	struct hud_thread *thread;
	struct observation at;
	u32 index = 0;
	u64 last;

	count(work.samples);
	at.now = clock_now();
	thread = find_thread(bpf_get_current_pid_tgid(), &index);
	if (thread && !use_sample(thread, at.now, &use, &last))
		return 0;
	read_counters_of(task, &at);
	if (thread) {
		at.stolen = by_tick ? stolen_until_now(thread, &at)
				    : stolen_until_interrupt(thread, last, &at);
		begin_write(thread);
	}
	thread = observe_running(ctx, task, thread, &index, &at, &use);
	if (thread)
		end_write(thread);
	return 0;
}

/*
 * The scheduler's tick: it comes on every busy CPU anyway, and stops on idle ones. Attached to its
 * end, when it has brought the thread's own clock up to date.
 */
SEC("tp_btf/hrtimer_expire_exit")
int tick(u64 *ctx)
{
	struct hrtimer *timer = (void *)ctx[0];

	if (bpf_get_current_pid_tgid() >> 32 != config.tgid)
		return 0;
	if ((u64)timer->function != tick_signature.function)
		return 0;
	return sample(ctx, bpf_get_current_task_btf(), true);
}

/*
 * Attached only at the start, while hud computes: finds the timer whose expiries are whole tick
 * periods apart, on all CPUs. Hardly any other timer's are.
 */
SEC("tp_btf/hrtimer_expire_entry")
int learn_tick(u64 *ctx)
{
	struct hrtimer *timer = (void *)ctx[0];
	u64 frames[HUD_KERNEL_FRAMES], expires, entry;
	struct hud_tick *tick = &tick_signature;
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
	again = tick->function == (u64)timer->function && tick->user_entry == entry &&
		saturating_sub(expires, tick->expires) % config.tick_ns == 0;
	if (again) {
		tick->confirmed++;
	} else if (tick->confirmed) {
		tick->confirmed--;
		return 0;
	}
	tick->expires = expires;
	tick->function = (u64)timer->function;
	tick->user_entry = entry;
	return 0;
}

/* A perf clock: of every CPU, or of one thread. Adds timer interrupts of its own. */
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

#endif
