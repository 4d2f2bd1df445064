// Helpers whose answers differ between the systems: what they answer goes into a map.
#include "linux.h"

struct {
    UINT(type, ARRAY);
    TYPE(key, u32);
    TYPE(value, s64);
    UINT(max_entries, 32);
} answers SEC(".maps");

struct {
    UINT(type, HASH);
    TYPE(key, u32);
    TYPE(value, u64);
    UINT(max_entries, 8); // as many as there are keys: on Windows, hash maps are never full
} small SEC(".maps");

struct {
    UINT(type, QUEUE);
    TYPE(value, u64);
    UINT(max_entries, 3);
} queue SEC(".maps");

struct {
    UINT(type, STACK);
    UINT(value_size, 12);
    UINT(max_entries, 3);
} stack SEC(".maps");

INLINE void note(u32 key, s64 value) {
    s64 *place = lookup(&answers, &key);
    if (place)
        *place += value;
}

// Only the sign, as programs look at it.
INLINE s64 sign(long answer) {
    return answer < 0 ? -1 : answer > 0 ? 1 : 0;
}

SEC("xdp") int helpers(struct xdp_md *context) {
    u8 *data = DATA(context), *end = DATA_END(context);
    if (data + 16 > end)
        return XDP_DROP;
    u32 key = data[0] & 7, zero = 0;
    u64 value = data[1], out = 7;
    note(0, sign(update(&small, &key, &value, data[2] % 3)));
    key = data[3] & 7;
    note(1, sign(delete(&small, &key)));
    note(2, delete(&answers, &zero));
    // The numbers themselves, as they are on Linux.
    key = data[2] & 7;
    note(16, update(&small, &key, &value, 1));
    key = data[3] & 7;
    note(17, delete(&small, &key));
    note(18, update(&small, &key, &value, 2));
    long answer = push(&queue, &value, 0);
    note(3, sign(answer));
    if (answer == -7) // E2BIG
        note(19, 1);
    // The queue has three places, so that the fourth has nothing.
    if (data[4] & 2)
        for (int i = 0; i < 4; i++)
            note(20 + i, pop(&queue, &out));
    if (data[4] & 1) {
        note(4, sign(pop(&queue, &out)));
        note(5, out);
        out = 9;
        note(6, sign(peek(&queue, &out)));
        note(7, out);
    }
    u32 part[3] = {data[5], data[6], data[7]};
    note(8, sign(push(&stack, part, data[8] & 2)));
    if (data[9] & 1) {
        part[0] = part[1] = part[2] = 3;
        note(9, sign(pop(&stack, part)));
        note(10, part[0] + part[1] + part[2]);
    }
    note(11, buffer_length(context));
    // The sum is equal modulo 0xffff only, which folding shows.
    s64 sum = csum_diff(0, 0, (u32 *)part, 12, data[10] << 24 | data[11]);
    u32 folded = (u32)sum;
    folded = (folded >> 16) + (folded & 0xffff);
    folded = (folded >> 16) + (folded & 0xffff);
    note(12, folded % 0xffff);
    u8 bytes[6] = {};
    u32 offset = data[12] | (data[13] & 1) << 20;
    note(13, sign(load_bytes(context, offset, bytes, 6)));
    for (int i = 0; i < 6; i++)
        note(14, bytes[i]);
    bytes[0] = data[14];
    note(15, sign(store_bytes(context, data[15], bytes, 3)));
    return XDP_PASS;
}
