/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The sites where a poll blocks, or is sampled, each with the kernel's facts about it. */
#ifndef HUD_SITE_BPF_H
#define HUD_SITE_BPF_H

#include "facts.bpf.h"
#include "thread.bpf.h"

/* Makes the site of this sleep the thread's current one; adds it to the poll if it is new there. */
static __noinline int enter_site(struct hud_thread *thread, struct task_struct *task,
				 struct user_regs *regs)
{
	struct hud_poll *poll = &thread->poll;
	u32 used = poll->site_count, i;
	struct hud_site *site;

	for (i = 0; i < HUD_SITES; i++) {
		if (i >= used)
			break;
		site = &poll->sites[i];
		if (site->syscall == regs->syscall && site->sp == regs->sp &&
		    site->args[0] == regs->args[0]) {
			site->count++;
			thread->site = i;
			return 0;
		}
	}
	if (i >= HUD_SITES)
		i = HUD_SITES - 1;
	else
		poll->site_count = i + 1;
	site = &poll->sites[i];
	thread->site = i;
	if (used >= HUD_SITES) {
		site->count++;
		return 0;
	}
	site->sp = regs->sp;
	site->args[0] = regs->args[0];
	site->args[1] = regs->args[1];
	site->args[2] = regs->args[2];
	site->syscall = regs->syscall;
	site->previous_syscall = thread->last_syscall;
	site->blocked_ns = 0;
	site->count = 1;
	site->captured = 0;
	site->fd_mode = file_mode(BPF_CORE_READ(task, files), awaited_fd(regs));
	site->in_iowait = BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait);
	site->has_children = has_children(task);
	return 0;
}

/*
 * Adds the same facts to the captured sample of a running thread: a read or write may take more CPU
 * time than it waits.
 */
static __noinline int describe_sample(u32 index, struct task_struct *task, struct user_regs *regs)
{
	struct hud_captures *all = bpf_map_lookup_elem(&captures, &index);
	struct hud_site *site;

	if (!all)
		return 0;
	site = &all->sample.head.site;
	site->in_iowait = 0;
	site->has_children = has_children(task);
	site->fd_mode = 0;
	if (regs->syscall >= 0)
		site->fd_mode = file_mode(BPF_CORE_READ(task, files), awaited_fd(regs));
	return 0;
}

#endif
