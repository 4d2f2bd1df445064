// The driver around a module (native module contract §2). The module defines `metadata`.

// ---------------------------------------------------------------- driver
typedef int NTSTATUS;
typedef struct { u16 length, maximum; u16 *buffer; } unicode_string;
typedef struct { void *routine; u32 flags; const u16 *name; void *entry; u32 type; void *data; u32 length; } query_row;
__declspec(dllimport) NTSTATUS RtlQueryRegistryValues(u32, const u16 *, const query_row *, void *, void *);
__declspec(dllimport) NTSTATUS NmrRegisterClient(const void *, void *, void **);
__declspec(dllimport) NTSTATUS NmrDeregisterClient(void *);
__declspec(dllimport) NTSTATUS NmrWaitForClientDeregisterComplete(void *);
__declspec(dllimport) NTSTATUS NmrClientAttachProvider(void *, void *, const void *, void **, const void **);

static const guid npi = {0xc847aac8, 0xa6f2, 0x4b53, {0xae, 0xa3, 0xf4, 0xa9, 0x4b, 0x9a, 0x80, 0xcb}};
DATA struct { u16 length; u32 type; guid g; } module_id = {24, 1, {1}};
DATA void *client_handle = (void *)0;
DATA void *binding_handle = (void *)0;

static NTSTATUS attach(void *binding, void *context, const void *provider) {
    void *out1 = 0;
    const void *out2 = 0;
    if (binding_handle) return 0xC000000D;
    NTSTATUS s = NmrClientAttachProvider(binding, context, &metadata, &out1, &out2);
    if (s == 0) binding_handle = binding;
    return s;
}
static NTSTATUS detach(void *context) { binding_handle = 0; return 0; }
static const struct {
    u16 version, length; void *attach, *detach, *cleanup;
    u16 iversion, isize; const guid *npi; void *module; u32 number; void *specific;
} characteristics = {0, 72, attach, detach, 0, 0, 40, &npi, &module_id, 0, 0};
static NTSTATUS query(u16 *name, u32 type, void *data, u32 length, void *context, void *entry) {
    if (type != 3 || length != 16) return 0xC000000D;
    for (int i = 0; i < 16; i++) ((volatile u8 *)&module_id.g)[i] = ((u8 *)data)[i];
    return 0;
}
static const query_row rows[3] = {
    {0, 1, u"Parameters", 0, 0, 0, 0},
    {query, 4, u"NpiModuleId", 0, 0, 0, 0},
};
static void unload(void *driver) {
    if (NmrDeregisterClient(client_handle) == 0x103) NmrWaitForClientDeregisterComplete(client_handle);
}
NTSTATUS DriverEntry(u8 *driver, unicode_string *path) {
    NTSTATUS s = RtlQueryRegistryValues(0, path->buffer, rows, 0, 0);
    if (s < 0) return s;
    s = NmrRegisterClient(&characteristics, 0, &client_handle);
    if (s < 0) return s;
    *(void **)(driver + 0x68) = unload;
    return s;
}
