// A verdict of each kind, counters in an array, a hash and an array with a value for each processor, and a packet that is changed and sent back.
#include "linux.h"

struct {
    UINT(type, ARRAY);
    TYPE(key, u32);
    TYPE(value, u64);
    UINT(max_entries, 8);
} verdicts SEC(".maps");

struct {
    UINT(type, HASH);
    TYPE(key, u16);
    TYPE(value, u32);
    UINT(max_entries, 65536); // never full: on Windows, hash maps never are
    UINT(map_flags, 1);
} protocols SEC(".maps");

struct {
    UINT(type, PERCPU_ARRAY);
    TYPE(key, u32);
    TYPE(value, u64);
    UINT(max_entries, 256);
} lengths SEC(".maps");

volatile const u32 limit = 600;
u64 seen = 0;

INLINE int judge(struct xdp_md *context) {
    u8 *data = DATA(context), *end = DATA_END(context);
    if (data + 14 > end)
        return XDP_ABORTED;
    u16 protocol = data[12] << 8 | data[13];
    u32 length = end - data, *count = lookup(&protocols, &protocol), one = 1;
    if (count)
        *count += length;
    else if (update(&protocols, &protocol, &one, 1) < 0)
        return XDP_DROP;
    u32 key = length & 255;
    u64 *sum = lookup(&lengths, &key);
    if (sum)
        *sum += context->ingress_ifindex;
    if (length > limit)
        return XDP_REDIRECT;
    if (data[0] & 1)
        return XDP_PASS;
    if (data[6] & 1) {
        for (int i = 0; i < 6; i++) {
            u8 byte = data[i];
            data[i] = data[i + 6];
            data[i + 6] = byte;
        }
        return XDP_TX;
    }
    return data[5] & 1 ? 77 : XDP_DROP;
}

SEC("xdp") int firewall(struct xdp_md *context) {
    int verdict = judge(context);
    u32 key = verdict & 7;
    u64 *count = lookup(&verdicts, &key);
    if (count)
        __sync_fetch_and_add(count, 1);
    seen++;
    return verdict;
}
