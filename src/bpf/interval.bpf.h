/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* How a worker's time between two observations was spent, by the scheduler's counters. */
#ifndef HUD_INTERVAL_BPF_H
#define HUD_INTERVAL_BPF_H

#include "math.bpf.h"
#include "thread.bpf.h"

/*
 * On-CPU time that the thread's own clock does not show counts as stolen from this much on; below
 * it is rounding or an ordinary interrupt.
 */
#define STOLEN_NS (1000 * 1000ull)

/* The scheduler's counters of a thread at one moment. */
struct observation {
	u64 now;
	u64 arrival;   /* when the thread last got onto a CPU */
	u64 run_delay; /* run-queue time of its life */
	u64 exec;      /* CPU time of its life */
	u64 stolen;    /* on-CPU time found stolen since the last observation: stolen.bpf.h */
	u64 faults;    /* page faults of its life */
	u32 as;	       /* enum hud_observed */
	u32 unused;
};

/* The time between two observations. */
struct interval {
	u64 on_cpu;
	u64 run_queue;
	u64 asleep;	  /* or stopped */
	u64 stolen;	  /* on the CPU, but taken by the hypervisor or interrupts */
	u64 running_from; /* start of the unobserved time on the CPU */
	u64 faults;	  /* page faults; 0 if not known */
};

static __always_inline void measure_interval(struct hud_thread *thread, struct observation *at,
					     struct interval *out)
{
	u64 wall = saturating_sub(at->now, thread->observed_clock);

	out->faults =
		thread->observed_faults ? saturating_sub(at->faults, thread->observed_faults) : 0;
	out->run_queue = 0;
	out->asleep = 0;
	out->on_cpu = wall;
	out->running_from = thread->observed_clock;
	out->stolen = min_u64(at->stolen, wall);
	if (at->arrival <= thread->observed_clock) {
		out->on_cpu -= out->stolen;
		return;
	}
	out->running_from = at->arrival;
	/* After skipped switches it was on the CPU more than once: only the scheduler has the sum.
	 */
	out->on_cpu = thread->skipped ? saturating_sub(at->exec, thread->observed_exec)
				      : saturating_sub(at->now, at->arrival);
	out->on_cpu = min_u64(out->on_cpu, wall);
	out->run_queue = min_u64(saturating_sub(at->run_delay, thread->observed_run_delay),
				 wall - out->on_cpu);
	out->asleep = wall - out->on_cpu - out->run_queue;
	if (thread->observed_as == HUD_OBSERVED_RUNNABLE ||
	    thread->observed_as == HUD_OBSERVED_RUNNING) {
		/* It did not sleep. The scheduler's sum is not up to date in a sample. */
		if (thread->skipped && at->as != HUD_OBSERVED_RUNNING && out->asleep >= STOLEN_NS)
			out->stolen = out->asleep;
		else
			out->on_cpu += out->asleep;
		out->asleep = 0;
	}
	if (thread->skipped && at->as != HUD_OBSERVED_RUNNING)
		return;
	out->stolen = min_u64(out->stolen, out->on_cpu);
	out->on_cpu -= out->stolen;
}

/* Adds the interval to the worker's usage. */
static __always_inline void add_usage(struct hud_thread *thread, struct interval *span)
{
	if (thread->phase != HUD_PHASE_POLL && thread->phase != HUD_PHASE_IDLE)
		return;
	thread->usage.on_cpu_ns += span->on_cpu;
	thread->usage.run_queue_ns += span->run_queue + span->stolen;
	if (thread->phase == HUD_PHASE_POLL)
		thread->usage.blocked_ns += span->asleep;
	else
		thread->usage.parked_ns += span->asleep;
}

#endif
