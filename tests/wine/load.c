// Loads a DLL that the tool made with LoadLibraryW, as the test harness of eBPF for Windows does, asks it for its
// version, and runs its first program on a context of zeros, with its global variables, maps of zeros, and helpers
// that return 0.
//
// usage: load.exe DLL...
// prints for each: whether it is at its preferred base, which only one can be, size of the metadata table, version, number
// of programs and maps, name and result of the program

#include <stdio.h>
#include <stdint.h>
#include <windows.h>

typedef struct { uint32_t major, minor, revision; } version;
typedef struct {
    size_t size;
    void (*programs)(const uint8_t **, size_t *);
    void (*maps)(const uint8_t **, size_t *);
    void (*hash)(const uint8_t **, size_t *);
    void (*version)(version *);
    void (*initial_values)(const void **, size_t *);
    void (*global_sections)(const uint8_t **, size_t *);
} metadata_table;

// What the runtime gives a program (program_runtime_context_t and what it points to).
typedef struct { uint8_t header[24]; uint64_t (*address)(void); uint64_t tail_call; } helper_data;
typedef struct { uint8_t header[24]; void *address; void *array; } map_data;
typedef struct { uint8_t header[24]; void *address; } global_data;
typedef struct { uint8_t header[24]; helper_data *helpers; map_data *maps; global_data *globals; void *btf; } runtime_context;
_Static_assert(sizeof(helper_data) == 40 && sizeof(map_data) == 40 && sizeof(runtime_context) == 56, "layout");

static uint64_t helper(void) { return 0; }

static int use(const char *name) {
    wchar_t path[MAX_PATH];
    if (!MultiByteToWideChar(CP_ACP, 0, name, -1, path, MAX_PATH)) return 2;
    HMODULE module = LoadLibraryW(path);
    if (!module) {
        printf("LoadLibraryW: error %lu\n", GetLastError());
        return 1;
    }
    const metadata_table *(*get_metadata_table)(void) = (void *)GetProcAddress(module, "get_metadata_table");
    if (!get_metadata_table) {
        printf("GetProcAddress: error %lu\n", GetLastError());
        return 1;
    }
    const metadata_table *table = get_metadata_table();
    version stated;
    table->version(&stated);
    const uint8_t *programs, *maps, *sections;
    size_t program_count, map_count, section_count;
    table->programs(&programs, &program_count);
    table->maps(&maps, &map_count);
    table->global_sections(&sections, &section_count);
    printf("%s: table of %zu bytes, version %u.%u.%u, %zu programs, %zu maps\n",
           module == (HMODULE)0x180000000 ? "at its base" : "elsewhere", table->size, stated.major, stated.minor,
           stated.revision, program_count, map_count);
    // program_entry_t: function at 32, name at 56.
    uint64_t (*function)(void *, const void *) = *(void **)(programs + 32);
    _Alignas(8) static uint8_t context[256], values[65536];
    static helper_data helpers[64];
    static map_data map_list[64];
    static global_data globals[8];
    for (int i = 0; i < 64; i++) {
        helpers[i].address = helper;
        map_list[i].address = map_list[i].array = values;
    }
    // global_variable_section_info_t, 48 bytes: initial data at 40.
    for (size_t i = 0; i < section_count && i < 8; i++) globals[i].address = *(void **)(sections + 48 * i + 40);
    static runtime_context runtime = {.helpers = helpers, .maps = map_list, .globals = globals};
    printf("%s returned %u\n", *(const char **)(programs + 56), (unsigned)function(context, &runtime));
    // Exactly one name is exported: the next ordinal is nothing.
    printf("ordinal 2 %s\n", GetProcAddress(module, (const char *)2) ? "exists" : "does not exist");
    return 0;
}

int main(int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        int status = use(arguments[i]);
        if (status) return status;
    }
    return 0;
}
