// Stand-in for netio.sys: the functions of the Network Module Registrar that the tool's drivers import, with a provider that
// attaches at once, reads all tables that the driver shows, runs its programs, and says what it saw (README.md).
//
// prints for each client: its module id and where its image is, size of the metadata table and version, programs with what they
// return, maps, initial values, global variables, and that it was attached; later that it was detached, and waited for.
// All lines start with "netio: ". What breaks a rule of the registrar or of the runtime is said, and the client refused.

#define WIN32_NO_STATUS
#include <windows.h>
#undef WIN32_NO_STATUS
#include <ntstatus.h>
#include <winternl.h>
#include <stdint.h>

// wdm.h
typedef NTSTATUS NTAPI query_routine(PCWSTR name, ULONG type, void *data, ULONG length, void *context, void *entry_context);
typedef struct {
    query_routine *routine;
    ULONG flags;
    PCWSTR name;
    void *entry_context;
    ULONG default_type;
    void *default_data;
    ULONG default_length;
} query_table;
typedef struct { ULONG title, type, length; uint8_t data[]; } key_value;
enum { RELATIVE_ABSOLUTE = 0, QUERY_SUBKEY = 1, QUERY_REQUIRED = 4, KEY_VALUE_PARTIAL = 2 };
_Static_assert(sizeof(query_table) == 56 && sizeof(key_value) == 12, "layout");

#define CURRENT_PROCESS ((HANDLE)-1)
ULONG DbgPrint(const char *format, ...);
NTSTATUS NTAPI NtOpenKey(HANDLE *, ACCESS_MASK, const OBJECT_ATTRIBUTES *);
NTSTATUS NTAPI NtQueryValueKey(HANDLE, const UNICODE_STRING *, int, void *, ULONG, ULONG *);
NTSTATUS NTAPI NtProtectVirtualMemory(HANDLE, void **, SIZE_T *, ULONG, ULONG *);
// The address in its own module, not that of a thunk in this one.
__declspec(dllimport) NTSTATUS NTAPI RtlQueryRegistryValues(ULONG, PCWSTR, query_table *, void *, void *);

// netioddk.h
typedef struct { uint16_t length; uint32_t type; GUID guid; } module_id;
typedef struct {
    uint16_t version, size;
    const GUID *npi_id;
    const module_id *module;
    uint32_t number;
    const void *npi_specific;
} registration_instance;
typedef struct {
    uint16_t version, length;
    NTSTATUS (*attach_provider)(void *binding, void *client_context, const registration_instance *provider);
    NTSTATUS (*detach_provider)(void *binding_context);
    void (*cleanup_binding_context)(void *binding_context);
    registration_instance client;
} client_characteristics;
_Static_assert(sizeof(module_id) == 24 && sizeof(client_characteristics) == 72, "layout");

// ebpf_native_module.h
typedef struct { uint16_t version; uint64_t size, total_size; } header;
typedef struct { uint32_t major, minor, revision; } version;
typedef struct { header header; uint32_t id; const char *name; } helper_entry;
typedef struct {
    uint64_t marker[2];
    header header;
    uint32_t type, key_size, value_size, max_entries, inner_map, pinning, id, inner_id;
    const char *name;
} map_entry;
typedef struct { header header; const char *name; uint64_t count; const char *const *values; } initial_values;
typedef struct { header header; const char *name; uint64_t size; const void *data; } global_section;
typedef struct {
    uint64_t marker;
    header header;
    uint64_t (*function)(void *context, const void *runtime);
    const char *code_section, *section, *name;
    const uint16_t *maps;
    uint16_t map_count;
    const helper_entry *helpers;
    uint16_t helper_count;
    uint64_t instructions;
    const GUID *program_type, *attach_type;
    const uint8_t *hash;
    uint64_t hash_length;
    const char *hash_type;
} program_entry;
typedef struct {
    size_t size;
    void (*programs)(const program_entry **, size_t *);
    void (*maps)(const map_entry **, size_t *);
    void (*hash)(const uint8_t **, size_t *);
    void (*version)(version *);
    void (*initial_values)(const initial_values **, size_t *);
    void (*global_sections)(const global_section **, size_t *);
} metadata_table;
_Static_assert(sizeof(map_entry) == 80 && sizeof(program_entry) == 144 && sizeof(metadata_table) == 56, "layout");

// What the runtime gives a program (program_runtime_context_t and what it points to).
typedef struct { header header; uint64_t (*address)(void); uint64_t tail_call; } helper_data;
typedef struct { header header; void *address, *array; } map_data;
typedef struct { header header; void *address; } global_data;
typedef struct { header header; helper_data *helpers; map_data *maps; global_data *globals; void *btf; } runtime_context;
_Static_assert(sizeof(helper_data) == 40 && sizeof(map_data) == 40 && sizeof(runtime_context) == 56, "layout");

#define LISTED 64
#define VARIABLES 4096

static const GUID bpf2c_npi = {0xc847aac8, 0xa6f2, 0x4b53, {0xae, 0xa3, 0xf4, 0xa9, 0x4b, 0x9a, 0x80, 0xcb}};
static const module_id provider_module = {
    sizeof(module_id), 1, {0x5e24d2f5, 0xf799, 0x42c3, {0xa9, 0x45, 0x87, 0xfe, 0xef, 0xd9, 0x30, 0xa7}}};

// The client: Wine loads each driver into a process of its own.
static struct client {
    const client_characteristics *characteristics;
    void *binding_context;
    BOOL attached, detached;
} client;

#define say(...) DbgPrint("netio: " __VA_ARGS__)
#define GUID_FORMAT "%08lx-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x"
#define GUID_PARTS(g) (g).Data1, (g).Data2, (g).Data3, (g).Data4[0], (g).Data4[1], (g).Data4[2], (g).Data4[3], (g).Data4[4], \
    (g).Data4[5], (g).Data4[6], (g).Data4[7]

// Whether an array has elements exactly if it has an address, and the first element a plausible header.
static BOOL is_array(const char *what, const void *first, size_t count, size_t header_at, size_t element) {
    if (!first != !count) {
        say("%s: %Iu at %p\n", what, count, first);
        return FALSE;
    }
    const header *head = (const header *)((const uint8_t *)first + header_at);
    if (count && (!head->version || head->size < element || head->total_size < head->size)) {
        say("%s: version %u, size %I64u, total size %I64u\n", what, head->version, head->size, head->total_size);
        return FALSE;
    }
    return TRUE;
}

static uint64_t no_helper(void) { return 0; }

// Runs a program on a context of zeros, with its global variables, maps of zeros, and helpers that return 0.
static uint64_t run(const program_entry *program, const global_section *sections, size_t section_count) {
    static uint64_t context[32], values[8192], variables[8][VARIABLES / 8];
    static helper_data helpers[LISTED];
    static map_data maps[LISTED];
    static global_data globals[8];
    memset(context, 0, sizeof(context));
    memset(values, 0, sizeof(values));
    for (int i = 0; i < LISTED; i++) {
        helpers[i].address = no_helper;
        maps[i].address = maps[i].array = values;
    }
    for (size_t i = 0; i < section_count; i++) {
        memcpy(variables[i], sections[i].data, sections[i].size);
        globals[i].address = variables[i];
    }
    runtime_context runtime = {.helpers = helpers, .maps = maps, .globals = globals};
    return program->function(context, &runtime);
}

static NTSTATUS show(const metadata_table *table) {
    version stated = {0};
    table->version(&stated);
    say("table of %Iu bytes, version %lu.%lu.%lu\n", table->size, stated.major, stated.minor, stated.revision);

    const global_section *globals;
    const program_entry *programs;
    const map_entry *maps;
    const initial_values *initial;
    const uint8_t *hash;
    size_t global_count, program_count, map_count, initial_count, hash_length;
    table->global_sections(&globals, &global_count);
    table->programs(&programs, &program_count);
    table->maps(&maps, &map_count);
    table->initial_values(&initial, &initial_count);
    table->hash(&hash, &hash_length);
    if (!is_array("programs", programs, program_count, 8, sizeof(program_entry)) ||
        !is_array("maps", maps, map_count, 16, sizeof(map_entry)) ||
        !is_array("initial values", initial, initial_count, 0, sizeof(initial_values)) ||
        !is_array("global sections", globals, global_count, 0, sizeof(global_section)))
        return STATUS_INVALID_PARAMETER;

    char digest[129] = "";
    for (size_t i = 0; i < hash_length && i < 64; i++) {
        digest[2 * i] = "0123456789abcdef"[hash[i] >> 4];
        digest[2 * i + 1] = "0123456789abcdef"[hash[i] & 15];
    }
    say("object %s\n", digest);
    for (size_t i = 0; i < global_count; i++) {
        if (i >= 8 || globals[i].size > VARIABLES) return STATUS_INVALID_PARAMETER;
        say("global section %s: %I64u bytes\n", globals[i].name, globals[i].size);
    }
    for (size_t i = 0; i < map_count; i++) {
        const map_entry *map = &maps[i];
        if (map->marker[0] || map->marker[1] || i >= LISTED) return STATUS_INVALID_PARAMETER;
        say("map %s: type %lu, key %lu, value %lu, %lu entries\n", map->name, map->type, map->key_size, map->value_size,
            map->max_entries);
    }
    for (size_t i = 0; i < initial_count; i++) {
        say("initial values of %s: %I64u\n", initial[i].name, initial[i].count);
        for (uint64_t slot = 0; slot < initial[i].count; slot++)
            if (initial[i].values[slot]) say("initial value %I64u: %s\n", slot, initial[i].values[slot]);
    }
    // The stride is that of the longer form, which this one starts.
    const uint8_t *at = (const uint8_t *)programs;
    for (size_t i = 0; i < program_count; i++, at += programs->header.total_size) {
        const program_entry *program = (const program_entry *)at;
        if (!is_array("helpers", program->helpers, program->helper_count, 0, sizeof(helper_entry))) return STATUS_INVALID_PARAMETER;
        say("program %s: section %s, code in %s, %I64u instructions, type " GUID_FORMAT "\n", program->name, program->section,
            program->code_section, program->instructions, GUID_PARTS(*program->program_type));
        for (uint16_t index = 0; index < program->helper_count; index++)
            say("helper %lu: %s\n", program->helpers[index].id, program->helpers[index].name);
        for (uint16_t index = 0; index < program->map_count; index++) say("uses map %u\n", program->maps[index]);
        if (program->helper_count > LISTED) return STATUS_INVALID_PARAMETER;
        say("%s returned %lu\n", program->name, (ULONG)run(program, globals, global_count));
    }
    return STATUS_SUCCESS;
}

NTSTATUS NmrRegisterClient(const client_characteristics *characteristics, void *client_context, void **handle) {
    const registration_instance *instance = &characteristics->client;
    if (characteristics->version || characteristics->length != sizeof(client_characteristics) || instance->version ||
        instance->size != sizeof(registration_instance) || !instance->module || instance->module->length != sizeof(module_id) ||
        instance->module->type != 1 || instance->number) {
        say("the characteristics are not those of a client\n");
        return STATUS_INVALID_PARAMETER;
    }
    if (memcmp(instance->npi_id, &bpf2c_npi, sizeof(GUID))) {
        say("the client wants " GUID_FORMAT "\n", GUID_PARTS(*instance->npi_id));
        return STATUS_INVALID_PARAMETER;
    }
    if (client.characteristics) {
        say("a second client\n");
        return STATUS_INVALID_PARAMETER;
    }
    client.characteristics = characteristics;
    say("client " GUID_FORMAT "\n", GUID_PARTS(instance->module->guid));
    registration_instance provider = {
        .size = sizeof(registration_instance), .npi_id = &bpf2c_npi, .module = &provider_module};
    NTSTATUS status = characteristics->attach_provider(&client, client_context, &provider);
    if (status || !client.attached) {
        say("not attached: %08lx\n", status);
        client.characteristics = NULL;
        return status ? status : STATUS_UNSUCCESSFUL;
    }
    say("attached\n");
    *handle = &client;
    return STATUS_SUCCESS;
}

NTSTATUS NmrClientAttachProvider(struct client *binding, void *binding_context, const metadata_table *dispatch,
                                 void **provider_context, const void **provider_dispatch) {
    if (binding != &client || !dispatch || dispatch->size != sizeof(metadata_table)) {
        say("the binding is not the given one, or the client's dispatch is no metadata table\n");
        return STATUS_INVALID_PARAMETER;
    }
    void *image = NULL;
    RtlPcToFileHeader((void *)dispatch->version, &image);
    say("image at %I64x\n", (uint64_t)image);
    NTSTATUS status = show(dispatch);
    if (status) {
        say("the tables are refused\n");
        return status;
    }
    binding->binding_context = binding_context;
    binding->attached = TRUE;
    *provider_context = binding;
    *provider_dispatch = NULL;
    return STATUS_SUCCESS;
}

// As with the runtime, detaching is not over when this returns: the client has to wait.
NTSTATUS NmrDeregisterClient(struct client *handle) {
    NTSTATUS status = handle->characteristics->detach_provider(handle->binding_context);
    handle->detached = !status;
    say("detached " GUID_FORMAT ": %08lx\n", GUID_PARTS(handle->characteristics->client.module->guid), status);
    return STATUS_PENDING;
}

NTSTATUS NmrWaitForClientDeregisterComplete(struct client *handle) {
    say("waited for " GUID_FORMAT "%s\n", GUID_PARTS(handle->characteristics->client.module->guid),
        handle->detached ? "" : ", which was not detached");
    handle->characteristics = NULL;
    return STATUS_SUCCESS;
}

// Wine's own function refuses RTL_QUERY_REGISTRY_SUBKEY. This one knows what the table of a driver has: subkeys of the path, and
// values that must be there.
static NTSTATUS NTAPI query_registry_values(ULONG relative_to, PCWSTR path, query_table *rows, void *context, void *environment) {
    (void)environment;
    if (relative_to != RELATIVE_ABSOLUTE) return STATUS_INVALID_PARAMETER;
    UNICODE_STRING name;
    OBJECT_ATTRIBUTES attributes;
    HANDLE top, key;
    RtlInitUnicodeString(&name, path);
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, NULL, NULL);
    NTSTATUS status = NtOpenKey(&top, KEY_READ, &attributes);
    if (status) return status;
    key = top;
    for (; !status && (rows->routine || rows->name); rows++) {
        RtlInitUnicodeString(&name, rows->name);
        if (rows->flags == QUERY_SUBKEY && !rows->routine && key == top) {
            InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, top, NULL);
            status = NtOpenKey(&key, KEY_READ, &attributes);
            if (status) key = top;
        } else if (rows->flags == QUERY_REQUIRED && rows->routine) {
            _Alignas(8) uint8_t buffer[256];
            key_value *value = (key_value *)buffer;
            ULONG length;
            status = NtQueryValueKey(key, &name, KEY_VALUE_PARTIAL, value, sizeof(buffer), &length);
            if (!status) status = rows->routine(rows->name, value->type, value->data, value->length, context, rows->entry_context);
        } else {
            status = STATUS_INVALID_PARAMETER;
        }
    }
    if (key != top) NtClose(key);
    NtClose(top);
    return status;
}

// Runs before the driver that imports this module. Puts a jump to the function above in the place of Wine's.
BOOL NTAPI DllMain(void *module, ULONG reason, void *reserved) {
    (void)module, (void)reserved;
    if (reason != DLL_PROCESS_ATTACH) return TRUE;
    uint8_t jump[12] = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0}; // mov rax, target; jmp rax
    void *target = (void *)query_registry_values, *place = (void *)RtlQueryRegistryValues, *start = place;
    memcpy(jump + 2, &target, sizeof(target));
    SIZE_T size = sizeof(jump);
    ULONG before;
    if (NtProtectVirtualMemory(CURRENT_PROCESS, &start, &size, PAGE_EXECUTE_READWRITE, &before)) return FALSE;
    memcpy(place, jump, sizeof(jump));
    NtProtectVirtualMemory(CURRENT_PROCESS, &start, &size, before, &before);
    return TRUE;
}
