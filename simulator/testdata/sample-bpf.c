// Programs for the interpreter in the place of those of sample.c: as many, with the same names, and the same maps. What they
// execute is in the tests instruction by instruction.

typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __array(name, value) typeof(value) *name[]
// Initialized, because clang puts what is not behind what is.
#define MAP(name, t, k, v, n) \
    struct { __uint(type, t); __uint(key_size, k); __uint(value_size, v); __uint(max_entries, n); } name SEC(".maps") = {}

MAP(params, 2, 4, 512, 1);
MAP(array, 2, 4, 8, 4);
MAP(custom, 15, 4, 4, 8);
MAP(shared, 1, 4, 8, 4);
MAP(progs, 3, 4, 4, 4);
typedef struct { __uint(type, 2); __uint(key_size, 4); __uint(value_size, 8); __uint(max_entries, 2); } inner_map;
inner_map inner SEC(".maps") = {};
struct {
    __uint(type, 7);
    __uint(key_size, 4);
    __uint(max_entries, 2);
    __array(values, inner_map);
} outer SEC(".maps") = {.values = {[1] = &inner}};

#define PROGRAM(name, code) \
    SEC("sample_ext") __attribute__((naked)) int name(void *ctx) { __asm__ volatile(code); }

PROGRAM(call, "r0 = 0\n exit")
PROGRAM(keep, "r0 = 0\n exit")
// Counts down in a subprogram.
PROGRAM(other, "r1 = 3\n call count_down\n r0 = 7\n exit")
PROGRAM(read_again, "r0 = 0\n exit")
PROGRAM(tail, "r2 = progs ll\n r3 = 0\n call 5\n r0 = 6\n exit")
// One way or the other, as the packet's first byte says; the way that jumps has one instruction less.
PROGRAM(target,
        "r1 = *(u64 *)(r1 + 0)\n r1 = *(u8 *)(r1 + 0)\n if r1 == 0 goto 1f\n r1 = 0x1122334455667788 ll\n"
        "1: r0 = r1\n exit")
__attribute__((section(".text"), used, naked)) static void count_down(void) {
    __asm__ volatile("1: r1 += -1\n if r1 != 0 goto 1b\n exit");
}
