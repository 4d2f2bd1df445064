// Counts by process who asks for ports, and lets everybody have them.
#include "bpf2sys_net.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint64_t);
    __type(value, uint64_t);
    __uint(max_entries, 1024);
} binds SEC(".maps");

SEC("bind")
int
count_binds(bind_md_t *context)
{
    uint64_t process = context->process_id;
    uint64_t one = 1;
    uint64_t *count = bpf_map_lookup_elem(&binds, &process);
    if (count != NULL) {
        __sync_fetch_and_add(count, 1);
    } else {
        bpf_map_update_elem(&binds, &process, &one, BPF_ANY);
    }
    return BIND_PERMIT_SOFT;
}
