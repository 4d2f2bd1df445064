// Loads drivers as the system does, all at the same time: makes a service of each with a module id, starts them, asks for their
// states, stops them, and asks again.
//
// usage: service.exe DRIVER...
// prints for each driver N from 1: what became of starting it, its state, what became of stopping it, its state
// The module id of driver N is its number in the first four bytes, and zeros behind.

#include <stdio.h>
#include <windows.h>

#define MOST 16

static void say_state(int number, SC_HANDLE service) {
    SERVICE_STATUS status;
    if (!QueryServiceStatus(service, &status)) printf("%d: QueryServiceStatus: error %lu\n", number, GetLastError());
    else if (status.dwCurrentState == SERVICE_RUNNING) printf("%d: running\n", number);
    else if (status.dwCurrentState == SERVICE_STOPPED) printf("%d: stopped\n", number);
    else printf("%d: state %lu\n", number, status.dwCurrentState);
}

static SC_HANDLE make(SC_HANDLE manager, int number, const char *file) {
    char path[MAX_PATH + 4] = "\\??\\";
    wchar_t name[16], wide[MAX_PATH + 4], key[128];
    DWORD module_id[4] = {number};
    if (!GetFullPathNameA(file, MAX_PATH, path + 4, NULL)) return NULL;
    if (!MultiByteToWideChar(CP_ACP, 0, path, -1, wide, MAX_PATH + 4)) return NULL;
    swprintf(name, 16, L"bpf2sys%d", number);
    // What an earlier run left, if it was ended early.
    SC_HANDLE service = OpenServiceW(manager, name, SERVICE_ALL_ACCESS);
    if (service) {
        DeleteService(service);
        CloseServiceHandle(service);
    }
    service = CreateServiceW(manager, name, name, SERVICE_ALL_ACCESS, SERVICE_KERNEL_DRIVER, SERVICE_DEMAND_START,
                             SERVICE_ERROR_NORMAL, wide, NULL, NULL, NULL, NULL, NULL);
    swprintf(key, 128, L"System\\CurrentControlSet\\Services\\%ls\\Parameters", name);
    RegSetKeyValueW(HKEY_LOCAL_MACHINE, key, L"NpiModuleId", REG_BINARY, module_id, sizeof(module_id));
    return service;
}

int main(int count, char **arguments) {
    SC_HANDLE manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_ALL_ACCESS), services[MOST + 1];
    SERVICE_STATUS status;
    if (!manager || count - 1 > MOST) return 2;
    for (int i = 1; i < count; i++) {
        services[i] = make(manager, i, arguments[i]);
        if (!services[i]) {
            printf("%d: CreateService: error %lu\n", i, GetLastError());
            return 1;
        }
        if (StartServiceW(services[i], 0, NULL)) printf("%d: started\n", i);
        else printf("%d: StartService: error %lu\n", i, GetLastError());
    }
    for (int i = 1; i < count; i++) say_state(i, services[i]);
    for (int i = 1; i < count; i++) {
        if (ControlService(services[i], SERVICE_CONTROL_STOP, &status)) printf("%d: told to stop\n", i);
        else printf("%d: ControlService: error %lu\n", i, GetLastError());
    }
    for (int i = 1; i < count; i++) {
        say_state(i, services[i]);
        DeleteService(services[i]);
        CloseServiceHandle(services[i]);
    }
    return 0;
}
