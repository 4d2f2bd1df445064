#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bpf2sys_fuzz::btf::run(input));
