/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What depends on the architecture: the thread pointer, user registers, syscall numbers. */
#ifndef HUD_ARCH_BPF_H
#define HUD_ARCH_BPF_H

#include "compat.bpf.h"
#include "hud.h"

#if defined(__TARGET_ARCH_x86)

#define THREAD_POINTER thread.fsbase
#define REGS_IP ip
#define REGS_SP sp
#define REGS_FP bp
#define REGS_ARG0 di
#define REGS_ARG1 si
#define REGS_ARG2 dx
#define REGS_SYSCALL orig_ax
#define KERNEL_STACK_BYTES 16384
#define SYSCALL_POLL 7
#define SYSCALL_PPOLL 271
#define SYSCALL_EPOLL_WAIT 232
#define SYSCALL_EPOLL_PWAIT 281
#define SYSCALL_EPOLL_PWAIT2 441
#define SYSCALL_RESTART 219
#define SYSCALL_EXIT 60
#define SYSCALL_FUTEX 202

/* read, write, readv, writev, sendto, recvfrom, sendmsg, recvmsg, shutdown, recvmmsg, sendmmsg */
static __always_inline bool is_transfer(s32 syscall)
{
	return syscall == 0 || syscall == 1 || syscall == 19 || syscall == 20 ||
	       (syscall >= 44 && syscall <= 48) || syscall == 299 || syscall == 307;
}

#define regs_lr(regs) 0

#elif defined(__TARGET_ARCH_arm64)

#define THREAD_POINTER thread.uw.tp_value
#define REGS_IP pc
#define REGS_SP sp
#define REGS_FP regs[29]
#define REGS_ARG0 orig_x0
#define REGS_ARG1 regs[1]
#define REGS_ARG2 regs[2]
#define REGS_SYSCALL syscallno
#define KERNEL_STACK_BYTES 16384
#define SYSCALL_POLL -2 /* does not exist: libc calls ppoll */
#define SYSCALL_PPOLL 73
#define SYSCALL_EPOLL_WAIT -2
#define SYSCALL_EPOLL_PWAIT 22
#define SYSCALL_EPOLL_PWAIT2 441
#define SYSCALL_RESTART 128
#define SYSCALL_EXIT 93
#define SYSCALL_FUTEX 98

/* read, write, readv, writev, sendto, recvfrom, shutdown, sendmsg, recvmsg, recvmmsg, sendmmsg */
static __always_inline bool is_transfer(s32 syscall)
{
	return (syscall >= 63 && syscall <= 66) || syscall == 206 || syscall == 207 ||
	       (syscall >= 210 && syscall <= 212) || syscall == 243 || syscall == 269;
}

#define regs_lr(regs) ((regs)->regs[30])

#endif

/* The user registers of a thread that hud uses. */
struct user_regs {
	u64 ip;
	u64 sp;
	u64 fp;
	u64 lr;
	u64 args[3];
	s32 syscall;
	u32 unused;
};

/* Reads the user registers of a thread in the kernel. `task` must be a trusted BTF pointer. */
static __always_inline void read_user_regs(struct task_struct *task, struct user_regs *out)
{
	if (has_task_pt_regs()) {
		struct pt_regs *regs = (void *)bpf_task_pt_regs(task);

		out->ip = regs->REGS_IP;
		out->sp = regs->REGS_SP;
		out->fp = regs->REGS_FP;
		out->lr = regs_lr(regs);
		out->args[0] = regs->REGS_ARG0;
		out->args[1] = regs->REGS_ARG1;
		out->args[2] = regs->REGS_ARG2;
		out->syscall = regs->REGS_SYSCALL;
	} else {
		/* They are at the top of the kernel stack. */
		struct pt_regs *regs = (void *)BPF_CORE_READ(task, stack) + KERNEL_STACK_BYTES -
				       bpf_core_type_size(struct pt_regs);

		out->ip = BPF_CORE_READ(regs, REGS_IP);
		out->sp = BPF_CORE_READ(regs, REGS_SP);
		out->fp = BPF_CORE_READ(regs, REGS_FP);
#if defined(__TARGET_ARCH_arm64)
		out->lr = BPF_CORE_READ(regs, regs[30]);
#else
		out->lr = 0;
#endif
		out->args[0] = BPF_CORE_READ(regs, REGS_ARG0);
		out->args[1] = BPF_CORE_READ(regs, REGS_ARG1);
		out->args[2] = BPF_CORE_READ(regs, REGS_ARG2);
		out->syscall = BPF_CORE_READ(regs, REGS_SYSCALL);
	}
	out->unused = 0;
}

static __always_inline bool is_epoll(s32 syscall)
{
	return syscall == SYSCALL_EPOLL_WAIT || syscall == SYSCALL_EPOLL_PWAIT ||
	       syscall == SYSCALL_EPOLL_PWAIT2;
}

static __always_inline bool is_poll(s32 syscall)
{
	return syscall == SYSCALL_POLL || syscall == SYSCALL_PPOLL;
}

#endif
