// Made for any kernel: a trimmed context whose offsets a loader corrects, values of the configuration, and a constant that a loader writes.
#include "linux.h"

#define CORE __attribute__((preserve_access_index))

struct bpf_sock_ops {
    u32 op;
    u32 remote_port;
    u32 reply;
    u32 never_there;
} CORE;

struct seen {
    u32 port, version, hertz, limit, has_reply, has_other, size;
};

struct {
    UINT(type, ARRAY);
    UINT(max_entries, 1);
    TYPE(key, u32);
    TYPE(value, struct seen);
} results SEC(".maps");

extern int LINUX_KERNEL_VERSION __attribute__((section(".kconfig")));
extern u32 CONFIG_HZ __attribute__((section(".kconfig"), weak));
const volatile u32 limit = 5;

SEC("sockops")
int
relocated(struct bpf_sock_ops *context)
{
    u32 key = 0;
    struct seen *seen = lookup(&results, &key);
    if (!seen)
        return 0;
    seen->port = context->remote_port;
    seen->version = LINUX_KERNEL_VERSION;
    seen->hertz = CONFIG_HZ;
    seen->limit = limit;
    seen->has_reply = __builtin_preserve_field_info(context->reply, 2);
    seen->has_other = __builtin_preserve_field_info(context->never_there, 2);
    seen->size = __builtin_preserve_type_info(*(struct bpf_sock_ops *)0, 1);
    return 1;
}
