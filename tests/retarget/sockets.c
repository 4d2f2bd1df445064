// Every field of the contexts of sockets that programs can read, at each width that Linux allows: what is read goes into a map.
#include "linux.h"

struct {
    UINT(type, ARRAY);
    TYPE(key, u32);
    TYPE(value, u64);
    UINT(max_entries, 64);
} values SEC(".maps");

INLINE void note(u32 key, u64 value) {
    u64 *place = lookup(&values, &key);
    if (place)
        *place = value;
}

#define READ(key, type, offset) note(key, *(volatile type *)((char *)context + (offset)))
#define WRITE(type, offset, value) *(volatile type *)((char *)context + (offset)) = (value)

INLINE void common(void *context) {
    READ(0, u32, 0);
    READ(1, u32, 28);
    READ(2, u32, 32);
    READ(3, u32, 36);
    READ(4, u32, 24);
    READ(5, u16, 24);
    READ(6, u16, 26);
    READ(7, u8, 24);
    READ(8, u8, 25);
    READ(9, u8, 26);
    READ(10, u8, 27);
}

SEC("cgroup/connect4") int connect4(void *context) {
    common(context);
    READ(16, u32, 4);
    READ(17, u16, 4);
    READ(18, u16, 6);
    READ(19, u8, 4);
    READ(20, u8, 5);
    READ(21, u8, 6);
    READ(22, u8, 7);
    WRITE(u32, 4, 0x0100007f);
    WRITE(u32, 24, 0x5000);
    return 1;
}

SEC("cgroup/connect6") int connect6(void *context) {
    common(context);
    READ(16, u64, 8);
    READ(17, u64, 16);
    READ(18, u32, 12);
    READ(19, u16, 22);
    READ(20, u8, 23);
    WRITE(u64, 16, 0x0123456789abcdefull);
    WRITE(u32, 8, 7);
    return 0;
}

SEC("cgroup/bind4") int bind4(void *context) {
    common(context);
    return *(volatile u32 *)((char *)context + 24) & 3;
}

SEC("sockops") int operations(void *context) {
    READ(0, u32, 0);
    READ(1, u32, 20);
    READ(2, u32, 24);
    READ(3, u32, 28);
    for (int i = 0; i < 4; i++) {
        READ(4 + i, u32, 32 + 4 * i);
        READ(8 + i, u32, 48 + 4 * i);
    }
    READ(12, u32, 64);
    READ(13, u32, 68);
    READ(14, u32, 88);
    for (int i = 0; i < 4; i++)
        READ(15 + i, u32, 4 + 4 * i);
    return 1;
}
