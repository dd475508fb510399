// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Task iterator: every thread of one process at this moment, with its registers, scheduler counters
 * and what it sleeps in, as a stream of struct hud_task. At the start it tells which threads are
 * workers and which polls are asleep already; later it serves the census, and tier 5.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "hud.h"
#include "compat.bpf.h"
#include "facts.bpf.h"

const volatile u32 tasks_tgid;

/* One record, for the generated Rust. */
struct hud_task task_type;

SEC("iter/task")
int tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct hud_task out = {};
	struct user_regs regs = {};

	/* Linux 5.10 ignores the filter given to the iterator. */
	if (!task || task->tgid != tasks_tgid)
		return 0;
	read_user_regs(task, &regs);
	out.tid = task->pid;
	out.state = task_state(task);
	out.thread_pointer = task->THREAD_POINTER;
	out.ip = regs.ip;
	out.sp = regs.sp;
	out.fp = regs.fp;
	out.lr = regs.lr;
	out.args[0] = regs.args[0];
	out.args[1] = regs.args[1];
	out.args[2] = regs.args[2];
	out.syscall = regs.syscall;
	out.switches = task->nvcsw + task->nivcsw;
	out.run_delay = task->sched_info.run_delay;
	out.sum_exec = task->se.sum_exec_runtime;
	out.last_arrival = task->sched_info.last_arrival;
	out.exec_start = task->se.exec_start;
	if (!is_poll(regs.syscall))
		out.fd_mode = file_mode(BPF_CORE_READ(task, files), awaited_fd(&regs));
	out.in_iowait = BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait);
	out.has_children = has_children(task);
	out.on_cpu = is_on_cpu(task);
	bpf_probe_read_kernel_str(out.comm, sizeof(out.comm), &task->comm);
	bpf_seq_write(ctx->meta->seq, &out, sizeof(out));
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
