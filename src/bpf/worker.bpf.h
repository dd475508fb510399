/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* How a worker's state begins: as a thread is first observed in a scheduler, or as a seed. */
#ifndef HUD_WORKER_BPF_H
#define HUD_WORKER_BPF_H

#include "interval.bpf.h"

/* The state's time starts with the thread's present stint on the CPU. */
static __always_inline void start_at_arrival(struct hud_thread *thread, struct observation *at)
{
	thread->observed_as = HUD_OBSERVED_RUNNING;
	thread->observed_clock = at->arrival;
	thread->observed_run_delay = at->run_delay;
	thread->observed_exec = at->exec;
}

/* As add_thread, for a thread that turns out to run a scheduler. */
static __noinline struct hud_thread *add_worker(struct task_struct *task, u32 *index,
						struct observation *at, u64 thread_pointer)
{
	struct hud_thread *thread = add_thread(BPF_CORE_READ(task, pid), index);

	if (!thread)
		return NULL;
	thread->thread_pointer = thread_pointer;
	thread->observed_faults = at->faults;
	start_at_arrival(thread, at);
	bpf_probe_read_kernel_str(thread->comm, sizeof(thread->comm), &task->comm);
	return thread;
}

/*
 * At the first observation of a worker whose state user space set before hud attached. That state
 * holds only if the thread has not run since, so its count of context switches must be the same.
 */
static __always_inline void validate_seed(struct hud_thread *thread, u64 switches,
					  struct observation *at)
{
	if (switches != thread->seeded - 1) {
		thread->phase = HUD_PHASE_UNKNOWN;
		start_at_arrival(thread, at);
	}
	thread->observed_faults = 0;
	thread->seeded = 0;
}

#endif
