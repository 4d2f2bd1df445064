/*
 * Stands in for bpf2sys.exe under Wine: has a script outside of Wine do what the command line says.
 *
 * Wine starts programs that are none of Windows, but does not wait for them. So the script, which BPF2SYS_STAND_IN names, writes its status
 * and what was said to a file, and this program waits for the file, says the same and ends with the same status.
 */
#include <stdio.h>
#include <wchar.h>
#include <windows.h>

#define LENGTH 8192

int wmain(int count, wchar_t **words)
{
    wchar_t script[LENGTH], said[64], line[LENGTH];
    if (count != 2 || !GetEnvironmentVariableW(L"BPF2SYS_STAND_IN", script, LENGTH)) {
        fprintf(stderr, "one response file is wanted, and BPF2SYS_STAND_IN\n");
        return 99;
    }
    swprintf(said, 64, L".said-%lu", GetCurrentProcessId());
    swprintf(line, LENGTH, L"sh \"%ls\" %ls \"%ls\"", script, said, words[1]);
    STARTUPINFOW startup = {.cb = sizeof startup};
    PROCESS_INFORMATION process;
    if (!CreateProcessW(L"Z:\\bin\\sh", line, NULL, NULL, FALSE, 0, NULL, NULL, &startup, &process)) {
        fprintf(stderr, "the script does not start: %lu\n", GetLastError());
        return 99;
    }
    for (int tries = 0; tries < 6000; tries++, Sleep(10)) {
        FILE *file = _wfopen(said, L"r");
        if (file != NULL) {
            int status = 99;
            if (fscanf(file, "%d\n", &status) != 1) {
                status = 99;
            }
            for (int c; (c = fgetc(file)) != EOF;) {
                fputc(c, stderr);
            }
            fclose(file);
            _wremove(said);
            return status;
        }
    }
    fprintf(stderr, "the script does not end\n");
    return 99;
}
