/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The x86-64 part of vmlinux.h. */
#ifndef HUD_VMLINUX_X86_H
#define HUD_VMLINUX_X86_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct thread_struct {
	unsigned long fsbase;
};

struct pt_regs {
	unsigned long r10;
	unsigned long bp;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
	unsigned long ip;
	unsigned long sp;
};

#pragma clang attribute pop

#endif
