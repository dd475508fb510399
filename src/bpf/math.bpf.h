/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Arithmetic on times, without branches: the verifier would explore both sides of each. */
#ifndef HUD_MATH_BPF_H
#define HUD_MATH_BPF_H

#include <bpf/bpf_helpers.h>

#include "hud.h"

/* a - b, or 0 if that is negative. Both must be below 2^63, as all times are. */
static __always_inline u64 saturating_sub(u64 a, u64 b)
{
	s64 difference = a - b;
	u64 negative = difference >> 63;

	barrier_var(negative); /* keeps clang from turning it into a branch */
	return difference & ~negative;
}

static __always_inline u64 min_u64(u64 a, u64 b)
{
	return a - saturating_sub(a, b);
}

#endif
