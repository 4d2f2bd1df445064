// The structures of the native module contract (§1) for the modules in this folder, which were made by hand.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

typedef struct { u32 a; u16 b, c; u8 d[8]; } guid;
typedef struct { u16 version; u64 size, total; } header;
typedef struct { header h; u32 id; const char *name; } helper_entry;
typedef struct { u32 type, key, value, entries, inner_idx, pinning, id, inner_id; } map_definition;
typedef struct { u64 zero[2]; header h; map_definition d; const char *name; } map_entry;
typedef struct { header h; const char *name; u64 count; const char **values; } initial_values;
typedef struct { header h; const char *name; u64 size; const void *data; } global_section;
typedef struct {
    u64 zero; header h; void *function; const char *pe_section, *section, *name;
    const u16 *maps; u16 map_count; const helper_entry *helpers; u16 helper_count; u64 instructions;
    const guid *type, *attach; const u8 *hash; u64 hash_length; const char *hash_type;
    const void *btf; u16 btf_count;
} program_entry;
_Static_assert(sizeof(map_entry) == 80 && sizeof(program_entry) == 160, "layout");

typedef struct { u8 header[24]; u64 (*address)(u64, u64, u64, u64, u64, void *); u64 tail_call; } helper_data;
typedef struct { u8 header[24]; u64 address; u8 *array; } map_data;
typedef struct { u8 header[24]; u8 *address; } global_data;
typedef struct { u8 header[24]; u64 (*address)(u64, u64, u64, u64, u64, void *); } btf_data;
typedef struct { u8 header[24]; helper_data *helpers; map_data *maps; global_data *globals; btf_data *btf; } runtime;

#define DATA __attribute__((section(".data")))
#define CODE(s) __attribute__((section(s), noinline))
#define MAP(n, ...) {{0, 0}, {1, 80, 80}, {__VA_ARGS__}, n}
#define H(i) {{1, 40, 40}, i, "helper_id"}
#define GENERAL H(1), H(2), H(3), H(4), H(5), H(6), H(7), H(8), H(9), H(10), H(11), H(12), H(13), H(14), H(15), H(16), \
    H(17), H(18), H(19), H(20), H(21), H(22), H(23), H(24), H(25), {{1, 40, 40}, 0, ""}, H(27), H(28), H(29), H(30), \
    H(31), H(32), H(33), H(34)
