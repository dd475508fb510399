/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Captures stacks inside polls, and decides when they are sent.
 *
 * A stack is worth sending only if its poll turns out slow. Until that is known, each worker's
 * captures stay in three buffers: the blocked stack whose site has cost most so far, the newest
 * blocked stack, and the newest sample. Once the poll is slow they are sent, and later ones at
 * once.
 *
 * Samples for the profile of all poll time are sent at once, slow poll or not.
 */
#ifndef HUD_STACK_BPF_H
#define HUD_STACK_BPF_H

#include "arch.bpf.h"
#include "thread.bpf.h"

/* Rate limit of the captures of one thread's blocked stacks. */
#define CAPTURE_EVERY_NS (250 * 1000ull)
#define CAPTURE_BURST 64

static __always_inline bool may_capture(struct hud_thread *thread, u64 now)
{
	return take_credit(&thread->capture_credit_clock, now, CAPTURE_EVERY_NS, CAPTURE_BURST);
}

/*
 * Copies the current thread's user stack from the page address `base` up, until a page is
 * unreadable. Returns the number of bytes copied. `max_pages` must be a constant.
 */
static __always_inline u32 copy_user_stack(u8 *to, u64 base, u32 max_pages)
{
	u32 pages = 0;

	for (u32 i = 0; i < max_pages; i++) {
		if (bpf_probe_read_user(to + i * HUD_PAGE, HUD_PAGE, (void *)(base + i * HUD_PAGE)))
			break;
		pages = i + 1;
	}
	return pages * HUD_PAGE;
}

/* Fills `event` from the current thread: registers, kernel frames, user stack. */
static __noinline int capture_stack(void *ctx, struct hud_stack_event *event,
				    struct hud_thread *thread, struct user_regs *regs, u64 now)
{
	struct hud_poll *poll = &thread->poll;
	u64 base = regs->sp & ~(u64)(HUD_PAGE - 1);
	long kernel;

	fill_header(&event->head.header, HUD_EVENT_STACK, thread->tid, now);
	event->head.poll_sequence = poll->sequence;
	event->head.task = poll->task;
	event->head.start_clock = poll->start_clock;
	event->head.on_cpu_ns = poll->on_cpu_ns;
	event->head.run_queue_ns = poll->run_queue_ns;
	event->head.blocked_ns = poll->blocked_ns;
	event->head.poll_flags = poll->flags;
	event->head.ip = regs->ip;
	event->head.sp = regs->sp;
	event->head.fp = regs->fp;
	event->head.lr = regs->lr;
	event->head.stack_base = base;
	event->head.site.syscall = regs->syscall;
	event->head.site.previous_syscall = thread->last_syscall;
	event->head.site.args[0] = regs->args[0];
	event->head.site.args[1] = regs->args[1];
	event->head.site.args[2] = regs->args[2];

	kernel = bpf_get_stack(ctx, event->head.kernel, sizeof(event->head.kernel), 0);
	event->head.kernel_count = kernel > 0 ? kernel / sizeof(u64) : 0;
	event->head.interrupt_entry = tick_signature.user_entry;

	event->head.stack_bytes = copy_user_stack(event->stack, base, HUD_STACK_PAGES);
	if (!event->head.stack_bytes)
		count(losses.stack_unreadable);
	count(work.captures);
	return 0;
}

static __noinline int send_stack(struct hud_stack_event *event)
{
	u64 bytes = event->head.stack_bytes;

	if (bytes > HUD_STACK_BYTES)
		bytes = HUD_STACK_BYTES;
	if (bpf_ringbuf_output(&events, event, offsetof(struct hud_stack_event, stack) + bytes,
			       BPF_RB_NO_WAKEUP))
		count(losses.ring_full);
	return 0;
}

static __always_inline void drop_captures(struct hud_thread *thread)
{
	thread->costliest_valid = 0;
	thread->newest_valid = 0;
	thread->sample_valid = 0;
}

/*
 * Sends the captures kept for a poll that has become slow. A global function: the verifier checks
 * it once, not for each path that leads to it. Such functions take only numbers.
 */
__noinline int send_captures(u32 index)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);
	struct hud_thread *thread = bpf_map_lookup_elem(&threads, &index);

	if (!all || !thread)
		return 0;
	if (thread->costliest_valid)
		send_stack(thread->costliest ? &all->blocked[1] : &all->blocked[0]);
	if (thread->newest_valid)
		send_stack(thread->costliest ? &all->blocked[0] : &all->blocked[1]);
	if (thread->sample_valid)
		send_stack(&all->sample);
	drop_captures(thread);
	return 0;
}

/* Captures a thread that falls asleep at its current site. */
static __noinline int capture_blocked(void *ctx, struct hud_thread *thread, u32 index,
				      struct user_regs *regs, u64 now)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);
	struct hud_stack_event *event;
	u32 site = thread->site;

	if (!all || site >= HUD_SITES)
		return 0;
	event = thread->costliest ? &all->blocked[0] : &all->blocked[1];
	capture_stack(ctx, event, thread, regs, now);
	event->head.stack_kind = HUD_STACK_BLOCKED;
	event->head.site = thread->poll.sites[site];
	thread->poll.sites[site].captured = 1;
	if (thread->poll.flags & HUD_POLL_SLOW)
		send_stack(event);
	else
		thread->newest_valid = 1;
	return 0;
}

/*
 * Once the thread has run again, the cost of the newest blocked stack is known: it replaces the
 * costliest one if it costs more.
 */
static __always_inline void settle_captures(struct hud_thread *thread)
{
	u32 site = thread->site, costliest = thread->costliest_site;

	if (!thread->newest_valid || site >= HUD_SITES || costliest >= HUD_SITES)
		return;
	thread->newest_valid = 0;
	if (thread->costliest_valid &&
	    thread->poll.sites[costliest].blocked_ns >= thread->poll.sites[site].blocked_ns) {
		thread->poll.sites[site].captured = 0;
		return;
	}
	if (thread->costliest_valid)
		thread->poll.sites[costliest].captured = 0;
	thread->costliest ^= 1;
	thread->costliest_valid = 1;
	thread->costliest_site = site;
}

/* Captures a running or preempted thread into its buffer for samples. */
static __noinline int capture_running(void *ctx, struct hud_thread *thread, u32 index,
				      struct user_regs *regs, u64 now)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);

	if (!all)
		return 0;
	capture_stack(ctx, &all->sample, thread, regs, now);
	all->sample.head.stack_kind = thread->observed_as == HUD_OBSERVED_RUNNING
					      ? HUD_STACK_SAMPLE
					      : HUD_STACK_PREEMPTED;
	return 0;
}

/* Uses the sample just captured for the open poll: sends it if the poll is slow, else keeps it. */
static __noinline int keep_sample(struct hud_thread *thread, u32 index, u64 now)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);

	if (!all)
		return 0;
	if (thread->poll.flags & HUD_POLL_SLOW)
		send_stack(&all->sample);
	else
		thread->sample_valid = 1;
	thread->captured_clock = now;
	return 0;
}

/*
 * Profile of all poll time: attributes the CPU time since the thread's last sample to what this
 * sample interrupts, and returns whether to send its stack now, for all the time summed up so far.
 *
 * A sample does not stand for one period: threads lose the CPU at the tick, so on a busy machine a
 * tick interrupts mostly threads that have run for less than a period. Half of the ring stays free
 * for slow polls.
 */
static __always_inline bool should_send_profile(struct hud_thread *thread, bool in_poll)
{
	if (in_poll) {
		thread->profile_ns += thread->usage.on_cpu_ns - thread->profiled_cpu_ns;
		thread->profile_samples++;
	}
	thread->profiled_cpu_ns = thread->usage.on_cpu_ns;
	return in_poll && thread->profile_samples >= config.profile_stride &&
	       bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < RING_BYTES / 2;
}

/* While the profile is off: it starts from the last sample before it is switched on. */
static __always_inline void reset_profile(struct hud_thread *thread)
{
	thread->profiled_cpu_ns = thread->usage.on_cpu_ns;
	thread->profile_ns = 0;
	thread->profile_samples = 0;
}

/* Sends the sample just captured for the profile. */
static __noinline int send_profile(struct hud_thread *thread, u32 index)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);

	if (!all)
		return 0;
	all->sample.head.header.kind = HUD_EVENT_PROFILE;
	all->sample.head.profile_ns = thread->profile_ns;
	send_stack(&all->sample);
	all->sample.head.header.kind = HUD_EVENT_STACK;
	thread->profile_ns = 0;
	thread->profile_samples = 0;
	return 0;
}

#endif
