/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * CPU time that a thread on the CPU did not get: the hypervisor ran something else there, or
 * interrupts did. The run queue's clock goes on meanwhile, the thread's own does not.
 */
#ifndef HUD_STOLEN_BPF_H
#define HUD_STOLEN_BPF_H

#include "poll.bpf.h"

/* What is new of the time stolen in the stint on the CPU that began at `arrival`. */
static __always_inline u64 newly_stolen(struct hud_thread *thread, u64 arrival, u64 in_stint,
					bool more)
{
	u64 before = thread->stint_arrival == arrival ? thread->stint_stolen : 0;

	if (more)
		in_stint += before;
	thread->stint_arrival = arrival;
	thread->stint_stolen = in_stint > before ? in_stint : before;
	return thread->stint_stolen - before;
}

/* Where the thread's own clock is up to date. */
static __always_inline u64 stolen_until_now(struct hud_thread *thread, struct moment *at)
{
	u64 lost;

	if (!thread->exec_out)
		return 0;
	lost = less(less(at->now, at->arrival), less(at->exec, thread->exec_out));
	return lost < STOLEN_NS ? 0 : newly_stolen(thread, at->arrival, lost, false);
}

/* At the end of a stint. */
static __always_inline u64 stolen_until_switch(struct hud_thread *thread, struct moment *at)
{
	u64 stolen = stolen_until_now(thread, at);

	thread->exec_out = at->exec;
	return stolen;
}

/*
 * At an interrupt of perf's clock, the last of which was at `last`: where one comes too late it
 * could not come. How far into its period the CPU was taken away is not known: half of it.
 */
static __always_inline u64 stolen_until_interrupt(struct hud_thread *thread, u64 last,
						  struct moment *at)
{
	u64 period = config.sample_period_ns, since, late;

	if (!last)
		return 0;
	since = last > at->arrival ? last : at->arrival;
	late = less(at->now, since + period);
	return late < smaller(STOLEN_NS, period / 2)
		       ? 0
		       : newly_stolen(thread, at->arrival, late + period / 2, true);
}

#endif
