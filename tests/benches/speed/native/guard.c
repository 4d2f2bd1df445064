// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Where calls through pointers go that are compiled with Control Flow Guard: as in a driver's file, to a function that only
// jumps to the address in RAX. Windows puts the address of its own, which looks at it first, into the pointer.

__attribute__((naked)) static void
guard_dispatch_icall_nop(void)
{
    __asm__("jmp *%rax");
}

void (*const __guard_dispatch_icall_fptr)(void) = guard_dispatch_icall_nop;
