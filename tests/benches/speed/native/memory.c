// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What C compilers call although nobody wrote it. Windows has these in its kernel; they are not counted as code of a program.

void *
memset(void *to, int value, __SIZE_TYPE__ count)
{
    for (__SIZE_TYPE__ i = 0; i < count; i++) {
        ((unsigned char *)to)[i] = (unsigned char)value;
    }
    return to;
}

void *
memcpy(void *to, const void *from, __SIZE_TYPE__ count)
{
    for (__SIZE_TYPE__ i = 0; i < count; i++) {
        ((unsigned char *)to)[i] = ((const unsigned char *)from)[i];
    }
    return to;
}
