/*
 * Unwinds from given places of an x64 image with RtlVirtualUnwind and compares with what is expected there.
 *
 * usage: unwind.exe IMAGE TABLE
 *
 * Each line of TABLE is one place: the RVA of an instruction, sixteen register values, and the known values in the stack as
 * offset and value. Offsets and RVAs are hexadecimal, values are
 *   cN    what register N (hardware number, decimal) held when the function was entered
 *   s±X   the address at this offset from the place of the function's return address
 *   r     the return address
 *   u     anything
 * From each place unwinding must arrive at the return address, with rsp behind it and every preserved register as it was
 * at the entry. Prints the number of places and exits with 0 if all do.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

#define STACK_BYTES 0x20000
static const int preserved[] = {3, 5, 6, 7, 12, 13, 14, 15};
static const uint64_t return_address = 0x00007ABCDEF01230;
static uint64_t stack[STACK_BYTES / 8];
/* Where the return address of the function is. */
static uint64_t *const entry_rsp = stack + STACK_BYTES / 16 + 1;

static uint64_t caller_value(int number) { return 0x5A00000000000000ull | (uint64_t)(number + 1) << 32 | 0x1234; }

static uint64_t value(const char *token) {
    static uint64_t anything = 0xDEAD000000000000ull;
    switch (token[0]) {
    case 'c': return caller_value(atoi(token + 1));
    case 's': return (uint64_t)entry_rsp + strtoll(token + 1, NULL, 16);
    case 'r': return return_address;
    default: return anything += 0x10001;
    }
}

static unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *size = ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*size + 1);
    if (!bytes || fread(bytes, 1, *size, file) != *size) return NULL;
    bytes[*size] = 0;
    fclose(file);
    return bytes;
}

int main(int argc, char **argv) {
    size_t image_size = 0, table_size = 0;
    unsigned char *image = argc == 3 ? read_file(argv[1], &image_size) : NULL;
    char *table = argc == 3 ? (char *)read_file(argv[2], &table_size) : NULL;
    if (!image || !table) {
        fprintf(stderr, "usage: unwind.exe IMAGE TABLE\n");
        return 2;
    }
    const IMAGE_NT_HEADERS64 *headers = (void *)(image + ((IMAGE_DOS_HEADER *)image)->e_lfanew);
    const IMAGE_SECTION_HEADER *section = (void *)(headers + 1);
    unsigned char *base = VirtualAlloc(NULL, headers->OptionalHeader.SizeOfImage, MEM_COMMIT | MEM_RESERVE, PAGE_READWRITE);
    if (!base) return 2;
    /* Nothing that unwinding reads needs a relocation. */
    for (int i = 0; i < headers->FileHeader.NumberOfSections; i++, section++)
        memcpy(base + section->VirtualAddress, image + section->PointerToRawData, section->SizeOfRawData);
    const IMAGE_DATA_DIRECTORY *directory = &headers->OptionalHeader.DataDirectory[IMAGE_DIRECTORY_ENTRY_EXCEPTION];
    RUNTIME_FUNCTION *functions = (void *)(base + directory->VirtualAddress);
    if (directory->Size && !RtlAddFunctionTable(functions, directory->Size / sizeof *functions, (DWORD64)base)) return 2;

    int places = 0, wrong = 0;
    char *rest = NULL;
    for (char *line = strtok_r(table, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *next = NULL;
        unsigned long rva = strtoul(strtok_r(line, " ", &next), NULL, 16);
        CONTEXT context = {0};
        DWORD64 *registers = &context.Rax;
        for (int i = 0; i < STACK_BYTES / 8; i++) stack[i] = value("u");
        for (int i = 0; i < 16; i++) registers[i] = value(strtok_r(NULL, " ", &next));
        for (char *offset; (offset = strtok_r(NULL, " ", &next)) != NULL;)
            *(uint64_t *)((char *)entry_rsp + strtoll(offset, NULL, 16)) = value(strtok_r(NULL, " ", &next));
        context.Rip = (DWORD64)(base + rva);

        DWORD64 found_base = 0, frame = 0;
        void *data = NULL;
        RUNTIME_FUNCTION *function = RtlLookupFunctionEntry(context.Rip, &found_base, NULL);
        if (function)
            RtlVirtualUnwind(UNW_FLAG_NHANDLER, found_base, context.Rip, function, &context, &data, &frame, NULL);
        else {
            context.Rip = *(DWORD64 *)context.Rsp;
            context.Rsp += 8;
        }

        places++;
        int bad = context.Rip != return_address || context.Rsp != (DWORD64)(entry_rsp + 1);
        if (bad) printf("%lx: rip %llx, rsp %+lld\n", rva, (unsigned long long)context.Rip, (long long)(context.Rsp - (DWORD64)entry_rsp));
        for (size_t i = 0; i < sizeof preserved / sizeof *preserved; i++)
            if (registers[preserved[i]] != caller_value(preserved[i])) {
                printf("%lx: register %d is %llx\n", rva, preserved[i], (unsigned long long)registers[preserved[i]]);
                bad = 1;
            }
        wrong += bad;
    }
    printf("%d places, %d wrong\n", places, wrong);
    return wrong || !places;
}
